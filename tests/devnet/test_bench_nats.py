import pytest
import trio

from sovereign_devnet.bench import nats

pytestmark = [pytest.mark.processes, pytest.mark.slow]


async def test_every_way_is_measured_and_compared(monkeypatch):
    monkeypatch.setattr(nats, "_ROUNDS", 1)
    monkeypatch.setattr(nats, "_ROUND_TRIPS", 5)
    with trio.fail_after(60):
        results = await nats.run(4 << 20)
    assert set(results) == {"plain", "tunnel", "peer_stream"}
    for figures in results.values():
        assert figures["megabytes_per_s"] > 0
        assert figures["round_trip_ms"] > 0
    assert nats._bars(results)["throughput_ratio"] > 0

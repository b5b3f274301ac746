"""The transport benchmark runs, and says which bars are met."""

import pytest

from sovereign_devnet.bench import transport


@pytest.mark.processes
@pytest.mark.slow
def test_a_small_round_of_each_mode(monkeypatch):
    monkeypatch.setattr(transport, "_MIB", 16 * 1024)
    monkeypatch.setattr(transport, "SAMPLES", {"connects": 1, "streams": 2, "round_trips": 2})
    result = transport.measure(quick=True, rounds=1)
    assert set(result["medians"]) == set(transport.MODES)
    assert result["medians"]["fast"]["bulk"]["mb_per_s"] > 0
    assert all(set(bar) == {"value", "bar", "met", "possible"} for bar in result["bars"].values())


def test_bars_compare_within_one_run():
    def report(speed: float) -> dict:
        latency = {"median_ms": 0.4, "p99_ms": 10}
        parts = ("connect", "new_stream", "round_trip", "round_trip_under_bulk")
        return {"bulk": {"mb_per_s": speed}, **dict.fromkeys(parts, latency)}

    bars = transport._bars({"floor": report(1000), "fast": report(700), "stock": report(200)})
    assert bars["stream / floor"] == {"value": 0.7, "bar": ">= 0.65", "met": True, "possible": 1.0}
    assert bars["stream / stock"] == {"value": 3.5, "bar": ">= 4.0", "met": False, "possible": 5.0}

"""Raw stream speed and latency between two real processes: ours, the stock stack, and the floor.

The floor is the same cipher over a bare trio socket: ChaCha20-Poly1305 in frames of 64 KiB, four to a write, with
no multiplexing, no flow control and no protocol. Rounds alternate between the three, because machines are shared
and noisy; only ratios within one run mean something. Stock is a plain libp2p host, not ours with `stack="stock"`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

MODES = ("floor", "fast", "stock")
# How often each latency is measured in a round.
SAMPLES = {"connects": 20, "streams": 50, "round_trips": 200}
_MIB = 1024 * 1024
_DEADLINE_S = 300
_PEER = [sys.executable, "-m", "sovereign_devnet.bench.transport_peer"]


def run_pair(mode: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Run one round in two fresh processes and return what the client reports."""
    with subprocess.Popen([*_PEER, "serve", mode], stdin=-1, stdout=-1, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            plan = {**plan, "server": json.loads(server.stdout.readline())}
            client = subprocess.run(
                [*_PEER, "drive", mode],
                input=json.dumps(plan) + "\n",
                capture_output=True,
                text=True,
                timeout=_DEADLINE_S,
                check=False,
            )
        finally:
            server.stdin.close()
        if client.returncode:
            raise RuntimeError(f"the {mode} client failed: {client.stderr.strip()[-2000:]}")
        report: dict[str, Any] = json.loads(client.stdout)
        return report


def _median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the median of every figure over the rounds of one mode."""
    return {
        part: {name: statistics.median(entry[part][name] for entry in rounds) for name in rounds[0][part]}
        for part in rounds[0]
    }


def _bars(medians: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Compare with what is to be reached."""
    fast, stock, floor = (medians[mode]["bulk"]["mb_per_s"] for mode in ("fast", "stock", "floor"))
    ours = medians["fast"]
    figures = {
        "stream / stock": (fast / stock, ">=", 4.0, floor / stock),
        "stream / floor": (fast / floor, ">=", 0.65, 1.0),
        "connect ms": (ours["connect"]["median_ms"], "<=", 15.0, None),
        "new stream ms": (ours["new_stream"]["median_ms"], "<=", 2.0, None),
        "round trip ms": (ours["round_trip"]["median_ms"], "<=", 0.5, None),
        "round trip under bulk p99 ms": (ours["round_trip_under_bulk"]["p99_ms"], "<=", 20.0, None),
    }
    return {
        name: {
            "value": round(value, 3),
            "bar": f"{sign} {bar}",
            "met": value >= bar if sign == ">=" else value <= bar,
            "possible": possible,
        }
        for name, (value, sign, bar, possible) in figures.items()
    }


def measure(*, quick: bool = False, rounds: int = 3) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        quick: move a quarter of the bytes.
        rounds: alternating rounds of each mode; medians are reported.

    Returns:
        `rounds` (every figure by mode), `medians` and `bars`; JSON-able.
    """
    size = (256 if quick else 1024) * _MIB
    reports: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode in MODES:
            amount = size // 4 if mode == "stock" else size
            reports[mode].append(run_pair(mode, {**SAMPLES, "bytes": amount}))
    medians = {mode: _median(entries) for mode, entries in reports.items()}
    return {"rounds": reports, "medians": medians, "bars": _bars(medians)}


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="move a quarter of the bytes")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds (default 3)")
    options = parser.parse_args()
    json.dump(measure(quick=options.quick, rounds=options.rounds), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""Write the Yamux vectors beside this file, from the specification and without the code under test."""

import json
import struct
from pathlib import Path

HERE = Path(__file__).parent
DATA, UPDATE, PING, AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream: int, length: int, data: bytes = b"", version: int = 0) -> str:
    return (struct.pack(">BBHII", version, kind, flags, stream, length) + data).hex()


def zeros(stream: int, count: int) -> dict[str, object]:
    """A DATA frame of zeros, kept short: the header in hex, and how many zero bytes follow it."""
    return {"hex": frame(DATA, 0, stream, count), "zeros": count}


def data(stream: int, payload: bytes, flags: int = 0) -> str:
    return frame(DATA, flags, stream, len(payload), payload)


# `receive`: what the accepting side (even ids) is sent; `events` and `answer`: what it must make of it.
ACKED = frame(UPDATE, ACK, 1, 0)
CASES = {
    "open-and-data": {
        "receive": [frame(UPDATE, SYN, 1, 0), data(1, b"hello")],
        "events": ["opened 1", "readable 1"],
        "answer": ACKED,
        "expect": "ok",
    },
    "open-with-data-frame": {
        "receive": [data(1, b"hi", SYN)],
        "events": ["opened 1", "readable 1"],
        "answer": ACKED,
        "expect": "ok",
    },
    "half-close": {
        "receive": [data(1, b"", SYN), data(1, b"bye", FIN)],
        "events": ["opened 1", "readable 1"],
        "answer": ACKED,
        "expect": "ok",
    },
    "reset-by-peer": {
        "receive": [frame(UPDATE, SYN, 1, 0), frame(UPDATE, RST, 1, 0)],
        "events": ["opened 1", "reset 1"],
        "answer": ACKED,
        "expect": "ok",
    },
    "ping": {
        "receive": [frame(PING, SYN, 0, 0xDEADBEEF)],
        "events": [],
        "answer": frame(PING, ACK, 0, 0xDEADBEEF),
        "expect": "ok",
    },
    "go-away": {
        "receive": [frame(AWAY, 0, 0, 0)],
        "events": ["away 0"],
        "answer": "",
        "expect": "ok",
    },
    "data-for-a-stream-that-ended": {
        "receive": [frame(UPDATE, SYN, 1, 0), frame(UPDATE, RST, 1, 0), data(1, b"late")],
        "events": ["opened 1", "reset 1"],
        "answer": ACKED,
        "expect": "ok",
    },
    "whole-credit-in-one-frame": {
        "receive": [frame(UPDATE, SYN, 1, 0), zeros(1, 262144)],
        "events": ["opened 1", "readable 1"],
        "answer": ACKED,
        "expect": "ok",
    },
    "one-byte-over-the-credit": {
        "receive": [frame(UPDATE, SYN, 1, 0), frame(DATA, 0, 1, 262145)],
        "expect": "violation",
    },
    "credit-used-up": {
        "receive": [frame(UPDATE, SYN, 1, 0), zeros(1, 262144), frame(DATA, 0, 1, 1)],
        "expect": "violation",
    },
    "credit-overflows": {
        "receive": [frame(UPDATE, SYN, 1, 0), frame(UPDATE, 0, 1, 0xFFFFFFFF)],
        "expect": "violation",
    },
    "unknown-version": {"receive": [frame(PING, SYN, 0, 1, version=1)], "expect": "violation"},
    "unknown-type": {"receive": [frame(4, 0, 1, 0)], "expect": "violation"},
    "unknown-flag": {"receive": [frame(UPDATE, 16, 1, 0)], "expect": "violation"},
    "data-on-stream-zero": {"receive": [frame(DATA, 0, 0, 0)], "expect": "violation"},
    "ping-on-a-stream": {"receive": [frame(PING, SYN, 3, 1)], "expect": "violation"},
    "id-of-the-other-side": {"receive": [frame(UPDATE, SYN, 2, 0)], "expect": "violation"},
    "id-used-twice": {
        "receive": [frame(UPDATE, SYN, 1, 0), frame(UPDATE, SYN, 1, 0)],
        "expect": "violation",
    },
    "id-going-back": {
        "receive": [frame(UPDATE, SYN, 5, 0), frame(UPDATE, SYN, 3, 0)],
        "expect": "violation",
    },
}


def main() -> None:
    for name, case in CASES.items():
        (HERE / f"{name}.json").write_text(json.dumps({"name": name, **case}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The version of the program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _read() -> str:
    try:
        return version("sovereign-storage")
    except PackageNotFoundError:  # pragma: no cover - a source tree that was never installed
        return "0+unknown"


VERSION = _read()

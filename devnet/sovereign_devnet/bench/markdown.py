"""Figures as Markdown."""

from __future__ import annotations

from typing import Any

from sovereign_devnet.bench.results import rounded


def render_tables(name: str, part: dict[str, Any], level: int = 2) -> str:
    """Return the tables and bars of one part.

    Args:
        name: of the part.
        part: as in the results.
        level: of its heading.
    """
    lines = [f"{'#' * level} {name}", ""]
    for table in part["tables"]:
        lines += [f"**{table['title']}**", "", *_table(table["columns"], table["rows"]), ""]
        if table["note"]:
            lines += [table["note"], ""]
    if part.get("failed"):
        lines += [f"**Failed**, what it had measured is lost: {part['failed']}", ""]
    lines += [*_bars(part["bars"])]
    if part["skipped"]:
        lines += [f"Not measured: {'; '.join(part['skipped'])}.", ""]
    before, after = part["load"]
    lines += [f"Load average {before} before, {after} after; {part['seconds']:g} s.", ""]
    return "\n".join(lines)


def render_summary(document: dict[str, Any]) -> str:
    """Return which bars were met and missed."""
    bars = [(name, bar) for name, part in document["parts"].items() for bar in part["bars"]]
    missed = [(name, bar) for name, bar in bars if not bar["met"]]
    lines = [f"{len(bars) - len(missed)} of {len(bars)} bars are met."]
    lines += [f"- missed, {name}: {_verdict(bar)}" for name, bar in missed]
    failed = [(name, part["failed"]) for name, part in document["parts"].items() if part.get("failed")]
    lines += [f"- failed, {name}: {reason}" for name, reason in failed]
    return "\n".join(lines)


def _verdict(bar: dict[str, Any]) -> str:
    text = f"{bar['name']} is {_with_unit(bar)}, bar {bar['bar']}"
    if bar.get("possible") is None:
        return text
    return f"{text}; limit of this machine {_cell(bar['possible'])}"


def _bars(bars: list[dict[str, Any]]) -> list[str]:
    if not bars:
        return []
    columns = ["bar", "measured", "to reach", ""]
    rows = [[bar["name"], _with_unit(bar), bar["bar"], "met" if bar["met"] else "**missed**"] for bar in bars]
    if any(bar.get("possible") is not None for bar in bars):
        columns.append("limit of this machine")
        rows = [[*row, bar.get("possible")] for row, bar in zip(rows, bars, strict=True)]
    return [*_table(columns, rows), ""]


def _with_unit(bar: dict[str, Any]) -> str:
    return f"{_cell(bar['value'])} {bar['unit']}".strip()


def _table(columns: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return lines + [f"| {' | '.join(map(_cell, row))} |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("|", "\\|")
    value = rounded(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"

"""Plots as SVG, written by hand: no library has to be installed for a few rectangles and lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH = 760
_HEIGHT = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 84
_COLOURS = ("#1b6ac9", "#d9822b", "#6b7a8f", "#2a9d5c", "#a23b72", "#8d6e00")


def bar_plot(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Return grouped bars.

    Args:
        title: above.
        groups: values by series, by group.
    """
    series = list(dict.fromkeys(name for values in groups.values() for name in values))
    top = _ceiling(value for values in groups.values() for value in values.values())
    parts = _frame(title, top)
    span = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    width = span * 0.8 / len(series)
    for number, (group, values) in enumerate(groups.items()):
        left = _LEFT + span * number + span * 0.1
        parts.append(_text(left + span * 0.4, _HEIGHT - _BOTTOM + 16, group))
        for position, name in enumerate(series):
            if name not in values:
                continue
            height = values[name] / top * (_HEIGHT - _TOP - _BOTTOM)
            at = left + width * position
            y = _HEIGHT - _BOTTOM - height
            colour = _COLOURS[position % len(_COLOURS)]
            parts.append(
                f'<rect x="{at:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{height:.1f}" fill="{colour}"/>'
            )
            parts.append(_text(at + width / 2, y - 4, f"{values[name]:.0f}"))
    return _finish(parts, series)


def line_plot(title: str, axis: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return lines over a logarithmic axis.

    Args:
        title: above.
        axis: name of the horizontal axis.
        series: points by name, x above 0.
    """
    xs = [math.log10(x) for points in series.values() for x, _ in points]
    top = _ceiling(y for points in series.values() for _, y in points)
    low, high = min(xs), max(max(xs), min(xs) + 1)
    parts = _frame(title, top)
    parts.append(_text(_WIDTH / 2, _HEIGHT - _BOTTOM + 32, axis))
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        parts.append(_text(_across(exponent, low, high), _HEIGHT - _BOTTOM + 16, f"{10**exponent:,}"))
    for number, points in enumerate(series.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(_across(math.log10(x), low, high), _up(y, top)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return _finish(parts, list(series))


def _across(value: float, low: float, high: float) -> float:
    return _LEFT + 20 + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT - 40)


def _up(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)


def _ceiling(values: Iterable[float]) -> float:
    """Return a round number above all values."""
    most = max([*values, 1e-9]) * 1.1
    step = 10.0 ** math.floor(math.log10(most))
    return math.ceil(most / step) * step


def _frame(title: str, top: float) -> list[str]:
    parts = [_text(_WIDTH / 2, 22, title, size=15)]
    for number in range(5):
        value = top * number / 4
        y = _up(value, top)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d5dae1"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", anchor="end"))
    return parts


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="#334">{escape(text)}</text>'


def _finish(parts: list[str], names: Sequence[str]) -> str:
    columns = 3
    for number, name in enumerate(names):
        x = _LEFT + number % columns * (_WIDTH - _LEFT - _RIGHT) / columns
        y = _HEIGHT - 36 + number // columns * 16
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="10" height="10" fill="{_COLOURS[number % len(_COLOURS)]}"/>'
        )
        parts.append(_text(x + 15, y + 9, name, anchor="start"))
    body = "\n".join(parts)
    # A background of its own, for readers with a dark page.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )

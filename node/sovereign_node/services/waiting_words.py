"""What waits on this device, in the words that a user sees."""

from __future__ import annotations

from typing import Any

from sovereign_node.units import format_age, format_count, format_duration, format_size


def waiting_text(item: dict[str, Any], now: int) -> str:
    """Return what of a project is on this device only: for whom, since when, why, and when it is tried again."""
    providers = ", ".join(str(peer["name"]) for peer in item["waits_for"]) or "a provider"
    what = (
        f"{format_count(item['chunks'], 'chunk')} ({format_size(item['bytes'])})" if item["chunks"] else "a backup"
    )
    text = f"{item['project']}: {what} on this device only, for {providers}, since {format_age(item['since'], now)}"
    if item.get("reason"):
        text += f"; {item['reason']}"
    next_try_at = item.get("next_try_at")
    if next_try_at is None:
        return text
    return text + (f"; next try in {format_duration(next_try_at - now)}" if next_try_at > now else "; being sent")

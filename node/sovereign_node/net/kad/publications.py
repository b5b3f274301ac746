"""What this node publishes and must repeat: values with a new sequence number, announcements as they are."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

# After a publication that reached nobody.
RETRY_S = 10.0


class Kind(Enum):
    """What is published."""

    VALUE = "value"
    PROVIDER = "provider"


@dataclass(slots=True)
class Publication:
    """One thing to repeat.

    Attributes:
        kind: a value or an announcement.
        key: 32 bytes.
        make_value: makes the value to publish now; for an announcement, None.
        interval_s: time between repetitions, in seconds.
        due_at: when it is to be repeated, trio clock.
    """

    kind: Kind
    key: bytes
    make_value: Callable[[], bytes] | None
    interval_s: float
    due_at: float


class Publications:
    """The list of what is to be repeated, and when."""

    def __init__(self) -> None:
        self._items: dict[tuple[Kind, bytes], Publication] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, publication: Publication) -> None:
        """Enter a publication, in place of an earlier one of the same kind and key.

        Args:
            publication: what to repeat.
        """
        self._items[publication.kind, publication.key] = publication

    def remove(self, kind: Kind, key: bytes) -> None:
        """Repeat something no longer.

        Args:
            kind: a value or an announcement.
            key: 32 bytes.
        """
        self._items.pop((kind, key), None)

    def is_current(self, publication: Publication) -> bool:
        """Tell whether a publication still stands in the list.

        Args:
            publication: one that was returned by ``due``.
        """
        return self._items.get((publication.kind, publication.key)) is publication

    def due(self, now: float) -> list[Publication]:
        """Return what is to be repeated now.

        Args:
            now: trio clock.
        """
        return [item for item in self._items.values() if item.due_at <= now]

    def hasten(self, due_at: float) -> None:
        """Repeat everything at a given time at the latest.

        Args:
            due_at: trio clock.
        """
        for item in self._items.values():
            item.due_at = min(item.due_at, due_at)

    def next_due(self) -> float | None:
        """Return when something is to be repeated next (trio clock), or None."""
        return min((item.due_at for item in self._items.values()), default=None)

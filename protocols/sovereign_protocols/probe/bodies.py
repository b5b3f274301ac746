"""Signed bodies of uptime: the receipt of one probe, and an observer's report over many windows.

Source: protocols/specs/probe.md, "Signed messages".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.schema import bounded_bytes, byte_string, integer
from sovereign_crypto.statement import StatementType
from sovereign_protocols.market.offer import MAX_TIME
from sovereign_protocols.probe.windows import WINDOW_S, pack_bits, unpack_bits
from sovereign_protocols.settle.signed import Body, malformed, schema_of

MIN_NONCE_BYTES: Final = 16
MAX_NONCE_BYTES: Final = 32
#: Ten days; two bitmaps of 180 bytes fit one statement.
MAX_WINDOWS: Final = 1440
#: An answer that takes longer is none.
ANSWER_WITHIN_S: Final = 10

_ID = byte_string(32)
_TIME = integer(0, MAX_TIME)
_BITMAP = bounded_bytes(MAX_WINDOWS // 8)


def is_nonce(value: object) -> bool:
    """Accept a nonce: 16 to 32 bytes."""
    return isinstance(value, bytes) and MIN_NONCE_BYTES <= len(value) <= MAX_NONCE_BYTES


@dataclass(frozen=True)
class ProbeReceipt(Body):
    """An answer to one nonce; signed by the provider, and by the observer that asked.

    Args:
        observer: device key, 32 bytes.
        provider: device key, 32 bytes.
        nonce: fresh, 16 to 32 bytes.
        sent_at: by the observer's clock, Unix seconds UTC.
        answered_at: by the provider's clock, Unix seconds UTC.
    """

    observer: bytes
    provider: bytes
    nonce: bytes
    sent_at: int
    answered_at: int

    TYPE = StatementType.USAGE
    KIND = "probe"
    SCHEMA = schema_of(observer=_ID, provider=_ID, nonce=is_nonce, sent_at=_TIME, answered_at=_TIME)

    @property
    def window(self) -> int:
        """Number of the window in which the observer asked."""
        return self.sent_at // WINDOW_S

    def check(self) -> None:
        """See Body."""
        if self.observer == self.provider:
            raise malformed("nobody observes himself")


@dataclass(frozen=True)
class UptimeReport(Body):
    """What one observer saw of one provider, signed by the observer.

    Args:
        observer: device key, 32 bytes; it signs.
        provider: device key, 32 bytes.
        first: number of the first window.
        count: how many windows.
        observed: one bit for each window in which it asked.
        good: one bit for each window in which an answer came.
    """

    observer: bytes
    provider: bytes
    first: int
    count: int
    observed: bytes
    good: bytes

    TYPE = StatementType.USAGE
    KIND = "uptime"
    SCHEMA = schema_of(
        observer=_ID,
        provider=_ID,
        first=integer(0, MAX_TIME // WINDOW_S),
        count=integer(1, MAX_WINDOWS),
        observed=_BITMAP,
        good=_BITMAP,
    )

    @classmethod
    def of(cls, observer: bytes, provider: bytes, windows: range, seen: Mapping[int, bool]) -> "UptimeReport":
        """Make the report of some windows from observations: number to whether an answer came."""
        observed = pack_bits(number in seen for number in windows)
        good = pack_bits(seen.get(number, False) for number in windows)
        return cls(observer, provider, windows.start, len(windows), observed, good)

    def check(self) -> None:
        """See Body."""
        length = -(-self.count // 8)
        if len(self.observed) != length or len(self.good) != length:
            raise malformed("a bitmap has another length than the windows")
        if any(good & ~observed for good, observed in zip(self.good, self.observed, strict=True)):
            raise malformed("a window is good that nobody observed")
        unused = 0xFF >> (self.count % 8 or 8)
        if self.observed[-1] & unused:
            raise malformed("bits behind the last window are set")

    def observations(self) -> dict[int, bool]:
        """Return the observed windows, and whether an answer came."""
        observed, good = unpack_bits(self.observed, self.count), unpack_bits(self.good, self.count)
        return {self.first + number: good[number] for number in range(self.count) if observed[number]}

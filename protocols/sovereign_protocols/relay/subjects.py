"""Subjects that name nobody: where a peer can be asked for a tunnel, and the inboxes of tunnels.

A rendezvous subject is a hash of the peer's public key and the UTC day. Who knows the peer can compute it; who
only watches the relay sees a new name every day. A secret shared by a group of devices makes it unpredictable to
everybody else.
"""

import base64
import hashlib
from typing import Final

SECONDS_PER_DAY: Final = 86_400
INBOX_TOKEN_BYTES: Final = 16
RENDEZVOUS_PREFIX: Final = "svrn.r."
INBOX_PREFIX: Final = "svrn.i."
_PERSON: Final = b"svrn-rendezvous1"
_DIGEST_BYTES: Final = 20
_MAX_SECRET_BYTES: Final = 64


def day_of(now: int) -> int:
    """Return the number of the UTC day at `now`, Unix seconds."""
    return now // SECONDS_PER_DAY


def rendezvous_subject(public_key: bytes, day: int, *, secret: bytes = b"") -> str:
    """Compute where a peer waits for dialers on one day.

    Args:
        public_key: 32 bytes, the Ed25519 key of its PeerID.
        day: number of the UTC day since 1970.
        secret: up to 64 bytes that both peers hold, or empty.

    Source: relay.md, "Rendezvous".
    """
    if len(public_key) != 32 or len(secret) > _MAX_SECRET_BYTES or not 0 <= day < 1 << 32:
        raise ValueError("a rendezvous takes a 32-byte key, a day and at most 64 bytes of secret")
    digest = hashlib.blake2b(
        public_key + day.to_bytes(4, "big"), digest_size=_DIGEST_BYTES, key=secret, person=_PERSON
    ).digest()
    return RENDEZVOUS_PREFIX + _base32(digest)


def rendezvous_days(now: int) -> tuple[int, int, int]:
    """Return the days on which a listener waits: clocks may be apart by up to a day."""
    today = day_of(now)
    return today - 1, today, today + 1


def inbox_subject(token: bytes) -> str:
    """Return the subject of an inbox.

    Args:
        token: 16 random bytes.
    """
    if len(token) != INBOX_TOKEN_BYTES:
        raise ValueError("an inbox token has 16 bytes")
    return INBOX_PREFIX + _base32(token)


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()

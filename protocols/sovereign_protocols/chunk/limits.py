"""Every limit of the chunk protocol, in one place; the specification's table is compared with it by a test."""

from typing import Final

VERSION: Final = 1

#: Padmé size 4 KiB and 4 MiB, and what the envelope adds.
MIN_CHUNK_BYTES: Final = 4_096 + 88
MAX_CHUNK_BYTES: Final = 4 * 1024**2 + 88
MAX_HEADER_BYTES: Final = 65_536
#: 1,000 ids are 34 KB: a list fits into a header with room to spare.
MAX_IDS: Final = 1_000
MAX_HEAD_BYTES: Final = 65_536
MAX_HEADS: Final = 64
MAX_RECOVERY_BYTES: Final = 4 * 1024**2
MAX_RECOVERY_RECORDS: Final = 8
MAX_ANNOUNCE_KEY_BYTES: Final = 64
MAX_CERTIFICATE_BYTES: Final = 1_024
MAX_LOG_ENTRIES: Final = 4_096
MAX_LOG_ENTRY_BYTES: Final = 65_536
MAX_STATEMENT_BYTES: Final = 65_536

#: Bytes of chunks that may be under way in one direction of one stream: four of the largest, so that one is read,
#: one sent, one received and one hashed.
DEFAULT_WINDOW_BYTES: Final = 4 * MAX_CHUNK_BYTES
MIN_WINDOW_BYTES: Final = MAX_CHUNK_BYTES
MAX_WINDOW_BYTES: Final = 64 * 1024**2
#: Requests other than puts that a client may have unanswered on one stream.
MAX_PENDING_REQUESTS: Final = 64

CLOCK_SKEW_S: Final = 300
HELLO_TIMEOUT_S: Final = 10
#: A frame that has begun must be complete after this long plus its length at the minimum rate.
FRAME_GRACE_S: Final = 10
MIN_RATE_BYTES_PER_S: Final = 16 * 1024
IDLE_TIMEOUT_S: Final = 300

DEFAULT_GRACE_S: Final = 30 * 86_400
#: A signed deletion is accepted for this long after it was signed.
DELETE_VALIDITY_S: Final = 600

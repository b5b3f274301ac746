"""Names, chunks and expectations that the tests of the chunk service share."""

import hashlib
import random
from contextlib import AbstractContextManager

import pytest

from sovereign_crypto.chunks import padme
from sovereign_protocols.errors import ErrorCode, RemoteError

CONTRACT = b"\x01" * 32
LOCATOR = b"\x03" * 32


def chunk(seed: int, plain_bytes: int = 5_000) -> tuple[bytes, bytes]:
    data = random.Random(seed).randbytes(padme(plain_bytes) + 88)
    return hashlib.sha256(data).digest(), data


def refused(code: ErrorCode) -> AbstractContextManager[pytest.ExceptionInfo[RemoteError]]:
    return pytest.raises(RemoteError, check=lambda error: error.code is code)

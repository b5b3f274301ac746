"""The strict canonical CBOR subset in which every signed or sealed structure is written.

One value has exactly one encoding, so hashes and signatures of a structure are well defined, and no
two implementations can read the same bytes differently. Allowed: integers in -2^63..2^63-1, byte
strings, text (Unicode NFC), booleans, null, arrays, maps. Keys of one map are all text or all
integers 0..65535. No floats, tags, indefinite lengths, other simple values; depth at most 16.

Source: RFC 8949 section 4.2.1 (deterministic encoding); ``crypto/specs/statements.md``.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

import cbor2

from sovereign_crypto.errors import MalformedError

DEFAULT_MAX_BYTES = 65536
MAX_DEPTH = 16
MAX_INT_KEY = 65535
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def _refuse_tag(*_arguments: object) -> NoReturn:
    raise MalformedError("CBOR tags are not allowed")


# The library has built-in decoders that do work on hostile input before we can look at the result
# (tag 35 compiles a regular expression), so each is replaced, and every other tag meets the hook.
_TAG_REFUSALS: dict[Any, Any] = dict.fromkeys(
    [*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799], _refuse_tag
)


def _check(value: object, depth: int) -> None:
    if value is None or isinstance(value, bool | bytes):
        return
    if type(value) is int:
        if not _INT_MIN <= value <= _INT_MAX:
            raise MalformedError("integer outside 64 bits")
    elif type(value) is str:
        _check_text(value)
    elif isinstance(value, list | tuple):
        if depth >= MAX_DEPTH:
            raise MalformedError("nested too deeply")
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        if depth >= MAX_DEPTH:
            raise MalformedError("nested too deeply")
        _check_keys(value)
        for item in value.values():
            _check(item, depth + 1)
    else:
        raise MalformedError("value is outside the CBOR subset")


def _check_text(value: str) -> None:
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MalformedError("text is not valid Unicode") from error
    if not unicodedata.is_normalized("NFC", value):
        raise MalformedError("text is not in Unicode normalization form C")


def _check_keys(value: Mapping[object, object]) -> None:
    # With keys of one kind the length-first order of RFC 7049 and the bytewise order of RFC 8949
    # are the same order, so every canonical encoder agrees.
    kinds = {type(key) for key in value}
    if len(kinds) > 1 or not kinds <= {str, int}:
        raise MalformedError("map keys must be all text or all small integers")
    for key in value:
        if isinstance(key, str):
            _check_text(key)
        elif not 0 <= key <= MAX_INT_KEY:  # type: ignore[operator]
            raise MalformedError("integer key outside 0..65535")


def encode(value: object) -> bytes:
    """Encode ``value`` in the one canonical way.

    Args:
        value: None, bool, int, bytes, NFC str, list or tuple, dict; nested at most 16 deep.

    Returns:
        The canonical encoding.

    Raises:
        MalformedError: a part of ``value`` is outside the subset.

    """
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes | bytearray | memoryview, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Any:
    """Decode ``data`` if, and only if, it is the canonical encoding of a value of the subset.

    Args:
        data: one encoded value, nothing after it.
        max_bytes: refuse longer input before looking at it.

    Returns:
        The value, of plain Python types (list, dict, int, bytes, str, bool, None).

    Raises:
        MalformedError: anything else than one canonical value within ``max_bytes``.

    """
    if len(data) > max_bytes:
        raise MalformedError("CBOR input is too long")
    raw = bytes(data)
    try:
        value = cbor2.loads(
            raw,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            tag_hook=_refuse_tag,
            semantic_decoders=_TAG_REFUSALS,
        )
    except (cbor2.CBORDecodeError, MalformedError, ValueError, TypeError) as error:
        raise MalformedError("not a CBOR value of the subset") from error
    _check(value, 0)
    if cbor2.dumps(value, canonical=True) != raw:
        raise MalformedError("CBOR is not in canonical form")
    return value

"""Blobs: types, codecs, and compression whose output is bounded on the way back.

Source: protocols/specs/container.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import zstandard

from sovereign_crypto.chunks import blob_id
from sovereign_protocols.vault.errors import ContentError

BLOB_ID_BYTES = 32
MIN_COMPRESS_BYTES = 64
# A sample decides for large blobs; three windows of 4 KiB cost 1 % of compressing 1 MiB that does not shrink.
_SAMPLE_ABOVE_BYTES = 64 * 1024
_SAMPLE_WINDOW_BYTES = 4096
# Decompression costs the reader time, so a gain below 1/32 is not worth it.
_WORTH_SHIFT = 5


class BlobType(IntEnum):
    """What a blob holds; a reader names the type it expects and refuses any other."""

    DATA = 1
    TREE = 2
    CATALOG = 3
    LIST = 4
    SNAPSHOT = 5


class Codec(IntEnum):
    """How the stored bytes of a blob are encoded."""

    RAW = 0
    ZSTD = 1


class BlobRecord(NamedTuple):
    """One line of a container's directory.

    Args:
        blob_id: 32 bytes, keyed hash of the raw bytes.
        type: what the blob holds.
        codec: how it is stored.
        stored_bytes: length inside the container.
        raw_bytes: length after decoding.
    """

    blob_id: bytes
    type: BlobType
    codec: Codec
    stored_bytes: int
    raw_bytes: int


class BlobEncoder:
    """Compresses blobs; one per thread, because a zstd context must not be shared.

    Args:
        level: zstd level, 1 to 19; 0 stores everything raw.
    """

    def __init__(self, level: int) -> None:
        self._compressor = (
            zstandard.ZstdCompressor(
                level=level, write_content_size=True, write_checksum=False, write_dict_id=False
            )
            if level
            else None
        )
        self._sampler = zstandard.ZstdCompressor(level=1) if level else None

    def encode(self, raw: bytes | memoryview) -> tuple[Codec, bytes | memoryview]:
        """Return the codec and the stored bytes of ``raw``; data that does not shrink stays as it is."""
        if self._compressor is None or not self._may_shrink(raw):
            return Codec.RAW, raw
        return _choose(raw, self._compressor.compress(raw))

    def encode_many(self, raws: Sequence[bytes | memoryview]) -> list[tuple[Codec, bytes | memoryview]]:
        """Do :meth:`encode` for many blobs in one call of the library, which other threads need not wait for.

        Args:
            raws: together at most a few MiB; the library allocates as much again.
        """
        encoded: list[tuple[Codec, bytes | memoryview]] = [(Codec.RAW, raw) for raw in raws]
        if self._compressor is None:
            return encoded
        numbers = [number for number, raw in enumerate(raws) if self._may_shrink(raw)]
        if len(numbers) > 1:
            frames = self._compressor.multi_compress_to_buffer([raws[number] for number in numbers], threads=1)
            for position, number in enumerate(numbers):
                encoded[number] = _choose(raws[number], frames[position].tobytes())
        elif numbers:
            encoded[numbers[0]] = _choose(raws[numbers[0]], self._compressor.compress(raws[numbers[0]]))
        return encoded

    def _may_shrink(self, raw: bytes | memoryview) -> bool:
        size_bytes = len(raw)
        return size_bytes >= MIN_COMPRESS_BYTES and (size_bytes <= _SAMPLE_ABOVE_BYTES or self._sample_shrinks(raw))

    def _sample_shrinks(self, raw: bytes | memoryview) -> bool:
        assert self._sampler is not None
        view = memoryview(raw)
        step = (len(view) - _SAMPLE_WINDOW_BYTES) // 2
        sample = b"".join(view[start : start + _SAMPLE_WINDOW_BYTES] for start in (0, step, 2 * step))
        return len(self._sampler.compress(sample)) + (len(sample) >> _WORTH_SHIFT) < len(sample)


def _choose(raw: bytes | memoryview, packed: bytes) -> tuple[Codec, bytes | memoryview]:
    """Return what is to be stored: the frame, if it is smaller by more than decompressing it costs."""
    if len(packed) + (len(raw) >> _WORTH_SHIFT) >= len(raw):
        return Codec.RAW, raw
    return Codec.ZSTD, packed


class BlobDecoder:
    """Decodes and checks stored blobs; one per thread.

    Args:
        dedup_key: 32 bytes, the project's key for blob ids.
    """

    def __init__(self, dedup_key: bytes) -> None:
        self._dedup_key = dedup_key
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)

    def decode(self, record: BlobRecord, stored: bytes | memoryview, expected: BlobType) -> bytes | memoryview:
        """Return the raw bytes of a blob.

        Args:
            record: its directory line.
            stored: exactly ``record.stored_bytes`` bytes.
            expected: the type that the reference calls for.

        Raises:
            ContentError: another type, another length, a broken frame, or bytes that do not hash to the blob id.
        """
        if record.type is not expected:
            raise ContentError(f"blob of type {record.type.name}, wanted {expected.name}")
        raw = stored if record.codec is Codec.RAW else self._decompress(stored, record.raw_bytes)
        if len(raw) != record.raw_bytes:
            raise ContentError("blob length differs from its directory line")
        if blob_id(self._dedup_key, raw) != record.blob_id:
            raise ContentError("blob does not hash to its id")
        return raw

    def _decompress(self, stored: bytes | memoryview, raw_bytes: int) -> bytes:
        try:
            # The library allocates what the frame header claims, so the claim is compared first.
            if zstandard.frame_content_size(stored) != raw_bytes:
                raise ContentError("compressed frame claims another length")
            return self._decompressor.decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ContentError("broken compressed frame") from error

"""Sealing and opening of a project's stored things, across its key epochs.

Source: protocols/specs/container.md, "Sealing".
"""

from __future__ import annotations

from sovereign_crypto.chunks import check_chunk_id, chunk_id
from sovereign_crypto.envelope import (
    OVERHEAD_BYTES,
    Purpose,
    commitment_matches,
    open_pieces,
    open_sealed,
    seal,
    seal_buffer,
)
from sovereign_crypto.errors import AuthenticationError, FormatError, IdMismatchError
from sovereign_crypto.project import ProjectKeys
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault.container import MAX_PLAINTEXT_BYTES, MIN_PLAINTEXT_BYTES

MIN_SEALED_BYTES = MIN_PLAINTEXT_BYTES + OVERHEAD_BYTES
MAX_SEALED_BYTES = MAX_PLAINTEXT_BYTES + OVERHEAD_BYTES


class ProjectSealer:
    """Seals under the newest epoch, opens under any epoch; safe to share among threads.

    Args:
        keys: the project's keys.
    """

    def __init__(self, keys: ProjectKeys) -> None:
        self.project_id = keys.project_id
        self.dedup_key = keys.dedup_key
        self.locator = keys.locator()
        # Newest first: what is read is mostly what was written last.
        epochs = range(keys.epoch, -1, -1)
        self._chunk_keys = [keys.chunk_key(epoch) for epoch in epochs]
        self._index_keys = [keys.index_key(epoch) for epoch in epochs]
        self._head_keys = [keys.head_key(epoch) for epoch in epochs]

    def seal_chunk(self, plaintext: bytes) -> tuple[bytes, bytes | bytearray]:
        """Seal a container; return its chunk id and the sealed bytes, which must not be changed."""
        sealed = seal_buffer(Purpose.CHUNK, self._chunk_keys[0], self.project_id, plaintext)
        return chunk_id(sealed), sealed

    def seal_segment(self, plaintext: bytes) -> tuple[bytes, bytes]:
        """Seal an index segment; return its chunk id and the sealed bytes."""
        sealed = seal(Purpose.INDEX, self._index_keys[0], self.project_id, plaintext)
        return chunk_id(sealed), sealed

    def open_chunk(self, wanted: bytes, sealed: bytes) -> bytes:
        """Return the container of a sealed chunk.

        Raises:
            IdMismatchError: other bytes than the id names.
            FormatError, AuthenticationError: not a chunk of this project, or altered.
        """
        check_chunk_id(wanted, sealed)
        return self._open(Purpose.CHUNK, self._chunk_keys, self.project_id, sealed)

    def open_arrived(
        self, wanted: bytes, sealed: Payload, *, id_checked: bool, buffer: bytearray | None = None
    ) -> memoryview:
        """Return the container of a chunk that came in pieces, without joining them; errors as :meth:`open_chunk`.

        Args:
            wanted: 32 bytes, the chunk id.
            sealed: what a target gave for it.
            id_checked: the SHA-256 has been compared already; a second hash would cost more than the rest.
            buffer: takes the container, ``MAX_PLAINTEXT_BYTES`` long; the result is valid until it is used again.
                A new one if ``None``.
        """
        if not MIN_SEALED_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
            raise FormatError("not the size of a chunk")
        if not id_checked and sealed.sha256() != wanted:
            raise IdMismatchError("chunk does not have the identifier it was asked by")
        target = bytearray(len(sealed) - OVERHEAD_BYTES) if buffer is None else buffer
        return open_pieces(Purpose.CHUNK, self._chunk_keys, self.project_id, sealed.pieces, target)

    @staticmethod
    def check_id(wanted: bytes, sealed: bytes) -> None:
        """Compare the SHA-256 of sealed bytes with an id.

        Raises:
            IdMismatchError: they differ.
        """
        check_chunk_id(wanted, sealed)

    def open_segment(self, wanted: bytes, sealed: bytes) -> bytes:
        """Return the plaintext of a sealed index segment; errors as :meth:`open_chunk`."""
        check_chunk_id(wanted, sealed)
        return self._open(Purpose.INDEX, self._index_keys, self.project_id, sealed)

    def seal_head(self, context: bytes, plaintext: bytes) -> bytes:
        """Seal a head's payload; ``context`` pins writer and sequence."""
        return seal(Purpose.HEAD, self._head_keys[0], self.project_id + context, plaintext)

    def open_head(self, context: bytes, sealed: bytes) -> bytes:
        """Return the plaintext of a head's payload.

        Raises:
            FormatError, AuthenticationError: not a head of this project and context, or altered.
        """
        return self._open(Purpose.HEAD, self._head_keys, self.project_id + context, sealed)

    @staticmethod
    def _open(purpose: Purpose, keys: list[bytes], context: bytes, sealed: bytes) -> bytes:
        if len(keys) == 1:
            return open_sealed(purpose, keys[0], context, sealed)
        for key in keys:
            if commitment_matches(purpose, key, context, sealed):
                return open_sealed(purpose, key, context, sealed)
        raise AuthenticationError("sealed under none of the project's keys")

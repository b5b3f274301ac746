"""The record layer of an established Noise connection, in batches.

libp2p's own session costs several coroutine hops, two socket reads and one write per record of 64 KiB, which is
most of its time. Here one read takes up to 256 KiB from the socket and every complete record in it is decrypted
without going back to the event loop; what is to be sent is encrypted record by record into one buffer and goes
out in one write.

Wire format (Source: libp2p's Noise specification, "Wire format"): 2 bytes of length, big-endian, then that many
bytes of ChaCha20-Poly1305 ciphertext with its 16-byte tag; the nonce is 4 zero bytes and a 64-bit counter,
little-endian, one counter each way, starting at 0.
"""

import struct
from collections.abc import Awaitable, Callable, Sequence

import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sovereign_node.net.pipes import Pipe

TAG_BYTES = 16
LENGTH_BYTES = 2
RECORD_BYTES = 65535
# Plaintext of the records that we send: ten bytes below the largest, so that a record just fits into one frame of
# 64 KiB of a relay's tunnel instead of taking a second, tiny one; TCP does not notice.
MESSAGE_BYTES = RECORD_BYTES - TAG_BYTES - 10
# Four records to a write: the working set stays in the second-level cache, and more gains nothing.
BATCH_MESSAGES = 4
BATCH_BYTES = BATCH_MESSAGES * MESSAGE_BYTES
# An idle connection costs little; one that fills its buffer gets a larger one, up to a whole batch and a record.
_FIRST_INBOX_BYTES = 4096
_RECEIVE_BYTES = 256 * 1024
_INBOX_BYTES = _RECEIVE_BYTES + LENGTH_BYTES + RECORD_BYTES
_OVERHEAD_BYTES = LENGTH_BYTES + TAG_BYTES

_LENGTH = struct.Struct(">H")
_NONCE = struct.Struct("<4xQ")

Part = bytes | bytearray | memoryview


class SessionError(Exception):
    """A record that the peer cannot have made, or a connection that broke."""


class NoiseSession:
    """Send and receive messages over a pipe whose handshake is done.

    One task may receive while another sends; each direction has one user at a time.

    Args:
        pipe: the byte stream; owned from now on.
        send_key: 32 bytes.
        receive_key: 32 bytes.
    """

    def __init__(self, pipe: Pipe, send_key: bytes, receive_key: bytes) -> None:
        self.pipe = pipe
        self._socket = pipe.stream.socket if isinstance(pipe.stream, trio.SocketStream) else None
        # A pipe of our own may spare a copy, as a socket does.
        self._receive_into: Callable[[memoryview], Awaitable[int]] | None = getattr(
            pipe.stream, "receive_into", None
        )
        self._sealer = ChaCha20Poly1305(send_key)
        self._opener = ChaCha20Poly1305(receive_key)
        self._send_count = self._receive_count = 0
        self._inbox = bytearray(_FIRST_INBOX_BYTES)
        self._inbox_end = 0
        self._was_filled = False
        self._outbuffer = bytearray()

    @property
    def batch_bytes(self) -> int:
        """What a batch should hold now; less under a limit, so that checks of life do not wait behind it."""
        pace = self.pipe.upload
        return BATCH_BYTES if pace is None else min(BATCH_BYTES, pace.piece_bytes)

    async def receive(self) -> list[bytes]:
        """Wait for at least one message and return all that are complete.

        Returns:
            Messages in order; an empty list at the end of the connection.

        Raises:
            SessionError: the connection broke, ended within a record, or a record is not authentic.
        """
        messages: list[bytes] = []
        while not messages:
            count = await self._fill()
            if not count:
                if self._inbox_end:
                    raise SessionError("the connection ended within a record")
                return []
            self.pipe.bytes_received += count
            pace = self.pipe.download
            if pace is not None:
                # Reading later fills the buffers before us, until the sender waits.
                await pace.take(count)
            self._inbox_end += count
            self._was_filled = self._inbox_end == len(self._inbox)
            messages = self._open_records()
        return messages

    async def _fill(self) -> int:
        """Read once into the free part of the inbox."""
        if self._inbox_end == len(self._inbox) or self._was_filled:
            larger = min(len(self._inbox) * 4, _INBOX_BYTES)
            self._inbox += bytes(larger - len(self._inbox))
        try:
            with memoryview(self._inbox) as view:
                # Under a limit, in pieces: what stands behind one that was let through waits for it.
                most = _RECEIVE_BYTES if self.pipe.download is None else self.pipe.download.piece_bytes
                free = view[self._inbox_end : self._inbox_end + min(most, _RECEIVE_BYTES)]
                if self._socket is not None:
                    return await self._socket.recv_into(free)
                if self._receive_into is not None:
                    return await self._receive_into(free)
                data = await self.pipe.stream.receive_some(len(free))
                free[: len(data)] = data
                return len(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SessionError(f"connection lost: {error}") from error

    def _open_records(self) -> list[bytes]:
        """Decrypt every complete record in the inbox and move what is left to its start."""
        messages = []
        start, end = 0, self._inbox_end
        unpack, opener, nonce = _LENGTH.unpack_from, self._opener.decrypt, _NONCE.pack
        with memoryview(self._inbox) as view:
            while end - start >= LENGTH_BYTES:
                stop = start + LENGTH_BYTES + unpack(view, start)[0]
                if stop > end:
                    break
                try:
                    message = opener(nonce(self._receive_count), view[start + LENGTH_BYTES : stop], None)
                except (InvalidTag, ValueError) as error:
                    raise SessionError("a record is not authentic") from error
                self._receive_count += 1
                start = stop
                if message:
                    messages.append(message)
        if start:
            self._inbox[: end - start] = self._inbox[start:end]
            self._inbox_end = end - start
        return messages

    def seal(self, parts: Sequence[Part]) -> memoryview:
        """Encrypt parts, joined, into as few records as they need.

        The parts may change afterwards. The result is valid until the next call.
        """
        total = sum(map(len, parts))
        records = -(-total // MESSAGE_BYTES)
        size = total + records * _OVERHEAD_BYTES
        if len(self._outbuffer) < size:
            self._outbuffer = bytearray(size)
        target = memoryview(self._outbuffer)
        position = 0
        for message in self._messages(parts, total):
            end = position + len(message) + _OVERHEAD_BYTES
            _LENGTH.pack_into(target, position, len(message) + TAG_BYTES)
            self._sealer.encrypt_into(
                _NONCE.pack(self._send_count), message, None, target[position + LENGTH_BYTES : end]
            )
            self._send_count += 1
            position = end
        return target[:position]

    def _messages(self, parts: Sequence[Part], total: int) -> "list[Part]":
        """Cut the joined parts into full messages, copying only those that span two parts."""
        if len(parts) == 1 and 0 < total <= MESSAGE_BYTES:
            return [parts[0]]
        messages: list[Part] = []
        gathered = bytearray()
        for part in parts:
            view = memoryview(part)
            start = 0
            if gathered:
                start = MESSAGE_BYTES - len(gathered)
                gathered += view[:start]
                if len(gathered) == MESSAGE_BYTES:
                    messages.append(gathered)
                    gathered = bytearray()
            while len(view) - start >= MESSAGE_BYTES:
                messages.append(view[start : start + MESSAGE_BYTES])
                start += MESSAGE_BYTES
            if start < len(view):
                gathered += view[start:]
        if gathered:
            messages.append(gathered)
        return messages

    async def transmit(self, sealed: memoryview) -> None:
        """Send what `seal` made.

        Cancelling leaves half a record on the wire: the connection is then of no more use.

        Raises:
            SessionError: the connection broke.
        """
        try:
            # Limits may change while a batch leaves.
            pace = self.pipe.upload
            if pace is None:
                await self.pipe.stream.send_all(sealed)
            else:
                size = pace.piece_bytes
                for start in range(0, len(sealed), size):
                    piece = sealed[start : start + size]
                    await pace.take(len(piece))
                    await self.pipe.stream.send_all(piece)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SessionError(f"connection lost: {error}") from error
        self.pipe.bytes_sent += len(sealed)

    async def close(self) -> None:
        """Close the pipe at once."""
        await self.pipe.close()

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
from collections.abc import Sequence

import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sovereign_node.net.pipes import Pipe
from sovereign_node.net.socket_io import make_io

TAG_BYTES = 16
LENGTH_BYTES = 2
RECORD_BYTES = 65535
# Plaintext of the records that we send: ten bytes below the largest, so that a record just fits into one frame of
# 64 KiB of a relay's tunnel instead of taking a second, tiny one; TCP does not notice.
MESSAGE_BYTES = RECORD_BYTES - TAG_BYTES - 10
# Eight records to a write: with fewer, the steps around them cost more; with more, the working set would leave the
# second-level cache.
BATCH_MESSAGES = 8
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
        self._read, self._write = make_io(pipe.stream)
        self._sealer = ChaCha20Poly1305(send_key)
        self._opener = ChaCha20Poly1305(receive_key)
        self._send_count = self._receive_count = 0
        self._inbox = memoryview(bytearray(_FIRST_INBOX_BYTES))
        self._inbox_end = 0
        self._was_filled = False
        self._plaintext = self._outbuffer = memoryview(b"")

    @property
    def batch_bytes(self) -> int:
        """What a batch should hold now; less under a limit, so that checks of life do not wait behind it."""
        pace = self.pipe.upload
        return BATCH_BYTES if pace is None else min(BATCH_BYTES, pace.piece_bytes)

    async def receive(self) -> memoryview:
        """Wait for at least one message and return all that are complete.

        Returns:
            Their contents, joined, valid until the next call; nothing at the end of the connection.

        Raises:
            SessionError: the connection broke, ended within a record, or a record is not authentic.
        """
        size = 0
        while not size:
            count = await self._fill()
            if not count:
                if self._inbox_end:
                    raise SessionError("the connection ended within a record")
                break
            self.pipe.bytes_received += count
            pace = self.pipe.download
            if pace is not None:
                # Reading later fills the buffers before us, until the sender waits.
                await pace.take(count)
            self._inbox_end += count
            self._was_filled = self._inbox_end == len(self._inbox)
            size = self._open_records()
        return self._plaintext[:size]

    async def _fill(self) -> int:
        """Read once into the free part of the inbox."""
        if self._inbox_end == len(self._inbox) or self._was_filled:
            self._enlarge_inbox()
        # Under a limit, in pieces: what stands behind one that was let through waits for it.
        most = _RECEIVE_BYTES if self.pipe.download is None else self.pipe.download.piece_bytes
        try:
            return await self._read(self._inbox[self._inbox_end : self._inbox_end + min(most, _RECEIVE_BYTES)])
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SessionError(f"connection lost: {error}") from error

    def _enlarge_inbox(self) -> None:
        larger = memoryview(bytearray(min(len(self._inbox) * 4, _INBOX_BYTES)))
        larger[: self._inbox_end] = self._inbox[: self._inbox_end]
        self._inbox = larger

    def _open_records(self) -> int:
        """Decrypt every complete record in the inbox one after the other, and move what is left to its start.

        Returns:
            Bytes of plaintext.
        """
        inbox, start, end = self._inbox, 0, self._inbox_end
        if len(self._plaintext) < end:
            self._plaintext = memoryview(bytearray(len(inbox)))
        target, filled = self._plaintext, 0
        while end - start >= LENGTH_BYTES:
            begin = start + LENGTH_BYTES
            stop = begin + _LENGTH.unpack_from(inbox, start)[0]
            if stop > end:
                break
            following = filled + stop - begin - TAG_BYTES
            try:
                self._opener.decrypt_into(
                    _NONCE.pack(self._receive_count), inbox[begin:stop], None, target[filled:following]
                )
            except (InvalidTag, ValueError) as error:
                raise SessionError("a record is not authentic") from error
            self._receive_count += 1
            start, filled = stop, following
        if start:
            inbox[: end - start] = inbox[start:end]
            self._inbox_end = end - start
        return filled

    def seal(self, parts: Sequence[Part]) -> memoryview:
        """Encrypt parts, joined, into as few records as they need.

        The parts may change afterwards. The result is valid until the next call.
        """
        total = sum(map(len, parts))
        records = -(-total // MESSAGE_BYTES)
        size = total + records * _OVERHEAD_BYTES
        if len(self._outbuffer) < size:
            self._outbuffer = memoryview(bytearray(size))
        target = self._outbuffer
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
                await self._write(sealed)
            else:
                size = pace.piece_bytes
                for start in range(0, len(sealed), size):
                    piece = sealed[start : start + size]
                    await pace.take(len(piece))
                    await self._write(piece)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SessionError(f"connection lost: {error}") from error
        self.pipe.bytes_sent += len(sealed)

    async def close(self) -> None:
        """Close the pipe at once."""
        await self.pipe.close()

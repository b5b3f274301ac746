"""Cuts what arrives, in pieces of any size, into headers and payloads."""

from collections.abc import Callable

from sovereign_protocols.yamux.frames import HEADER_BYTES, decode_header


class Parser:
    """The state between two pieces of input.

    Args:
        on_header: told type, flags, stream id and length of every frame; the answer is how many bytes of payload
            follow.
        on_payload: given payload bytes, and whether they are the last ones of their frame.
    """

    def __init__(
        self, on_header: Callable[[int, int, int, int], int], on_payload: Callable[[bytes | memoryview, bool], None]
    ) -> None:
        self._on_header = on_header
        self._on_payload = on_payload
        self._payload_left = 0
        self._partial_header = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            YamuxViolationError: a header is malformed, or the callbacks do not accept it.
        """
        offset, size = 0, len(data)
        while offset < size:
            if self._payload_left:
                count = min(self._payload_left, size - offset)
                self._payload_left -= count
                self._on_payload(data[offset : offset + count], not self._payload_left)
                offset += count
            elif self._partial_header or size - offset < HEADER_BYTES:
                missing = HEADER_BYTES - len(self._partial_header)
                self._partial_header += data[offset : offset + missing]
                offset += missing
                if len(self._partial_header) == HEADER_BYTES:
                    header = decode_header(self._partial_header)
                    self._partial_header.clear()
                    self._payload_left = self._on_header(*header)
            else:
                header = decode_header(data, offset)
                offset += HEADER_BYTES
                self._payload_left = self._on_header(*header)

"""A dial that waits for its answer."""

from collections.abc import Callable

import trio

from sovereign_node.net.nats.stream import TunnelStream
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.relay import tunnel_frames
from sovereign_protocols.relay.nats_wire import NO_RESPONDERS, Message
from sovereign_protocols.relay.tunnel_frames import FrameType, Opening


class PendingDial:
    """Takes what arrives on the inbox of a tunnel until the peer accepts, then hands on to the stream.

    Args:
        open_stream: makes the stream from what the peer announced and the number of our subscription.

    Attributes:
        sid: number of the inbox's subscription.
        done: set when the dial has succeeded or failed.
        stream: the tunnel, if it succeeded.
        reason: why it failed.
    """

    def __init__(self, open_stream: Callable[[Opening, int], TunnelStream]) -> None:
        self._open_stream = open_stream
        self.sid = 0
        self.done = trio.Event()
        self.stream: TunnelStream | None = None
        self.reason = ""

    def on_message(self, message: Message) -> None:
        """Take one message."""
        if self.stream is not None:
            self.stream.on_message(message)
        elif self.done.is_set():
            return
        elif message.status == NO_RESPONDERS:
            self._fail("the peer does not wait for tunnels there")
        else:
            self._on_answer(message.payload)

    def _on_answer(self, frame: bytes) -> None:
        try:
            kind, sequence = tunnel_frames.decode_head(frame)
            if kind is FrameType.CLOSE and sequence == 0:
                self._fail(f"the peer refuses: {tunnel_frames.decode_close(frame).name.lower()}")
            elif kind is FrameType.ACCEPT and sequence == 0:
                self.stream = self._open_stream(tunnel_frames.decode_opening(frame), self.sid)
                self.done.set()
        except RemoteProtocolError as error:
            self._fail(error.detail)

    def on_lost(self) -> None:
        """Learn that the connection has ended."""
        if self.stream is not None:
            self.stream.on_lost()
        else:
            self._fail("the connection to the relay was lost")

    def _fail(self, reason: str) -> None:
        self.reason = reason
        self.done.set()

"""Reading and writing large pieces of a byte stream with as few steps as can be.

trio's socket wrappers take a dozen calls around each system call. For sockets the system call is made here, by the
file descriptor, with trio only waiting where it would block; the rules for checkpoints are trio's own.
"""

import os
from collections.abc import Awaitable, Callable

import trio

Read = Callable[[memoryview], Awaitable[int]]
"""Fills the start of a buffer with what there is; gives the number of bytes, 0 at the end of the stream."""
Write = Callable[[memoryview], Awaitable[None]]
"""Sends everything."""


def make_io(stream: trio.abc.Stream) -> tuple[Read, Write]:
    """Choose how a stream is read and written; each direction has one user at a time."""
    if isinstance(stream, trio.SocketStream) and hasattr(os, "readv"):
        socket_io = SocketIO(stream.socket)
        return socket_io.read_into, socket_io.write
    # A pipe of our own may spare a copy, as a socket does.
    receive_into: Read | None = getattr(stream, "receive_into", None)

    async def copy_into(target: memoryview) -> int:
        data = await stream.receive_some(len(target))
        target[: len(data)] = data
        return len(data)

    return receive_into or copy_into, stream.send_all


class SocketIO:
    """A connected socket, without the wrappers.

    Args:
        socket: trio's; closed by its owner.
    """

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket

    async def read_into(self, target: memoryview) -> int:
        """Fill the start of `target` with what there is.

        Returns:
            Bytes filled; 0 at the end.

        Raises:
            OSError: the connection broke, or the socket is closed.
            trio.ClosedResourceError: the socket was closed meanwhile.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        has_waited = False
        while True:
            descriptor = self._socket.fileno()
            try:
                count = os.readv(descriptor, (target,))
                break
            except BlockingIOError:
                await trio.lowlevel.wait_readable(descriptor)
                has_waited = True
        if not has_waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return count

    async def write(self, data: memoryview) -> None:
        """Send everything; when cancelled, some of it has been sent.

        Raises:
            OSError: the connection broke, or the socket is closed.
            trio.ClosedResourceError: the socket was closed meanwhile.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        has_waited = False
        while data:
            descriptor = self._socket.fileno()
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(descriptor)
                has_waited = True
        if not has_waited:
            await trio.lowlevel.cancel_shielded_checkpoint()

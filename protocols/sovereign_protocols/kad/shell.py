"""DHT messages over any stream: the trio side of the protocol."""

from collections.abc import Callable

import trio

from sovereign_protocols.errors import ConnectionLostError
from sovereign_protocols.kad.errors import KadMessageError
from sovereign_protocols.kad.messages import FrameDecoder, Message, MessageType, encode_frame

READ_BYTES = 65536
# js-libp2p asks once per stream; a stream that asks more often than this is not a node.
MAX_REQUESTS_PER_STREAM = 256


async def serve(
    stream: trio.abc.HalfCloseableStream,
    answer: Callable[[Message], Message | None],
    *,
    idle_timeout_s: float,
    write_timeout_s: float,
) -> None:
    """Answer the requests on one stream until its other end is done.

    Args:
        stream: the accepted stream; the caller closes or resets it.
        answer: gives the answer to a request, None for none; what it raises ends the stream.
        idle_timeout_s: how long a request may take to arrive whole, in seconds.
        write_timeout_s: how long an answer may take to be sent, in seconds.

    Raises:
        KadMessageError: malformed input, or too many requests.
        trio.TooSlowError: a request or the taking of an answer took too long.
        trio.BrokenResourceError: the stream broke.
    """
    decoder = FrameDecoder()
    served = 0
    while True:
        with trio.fail_after(idle_timeout_s):
            messages: list[Message] = []
            while not messages:
                data = await stream.receive_some(READ_BYTES)
                if not data:
                    if decoder.pending:
                        raise KadMessageError("stream ended inside a message")
                    return
                messages = decoder.receive_data(data)
        served += len(messages)
        if served > MAX_REQUESTS_PER_STREAM:
            raise KadMessageError("too many requests on one stream")
        for message in messages:
            reply = answer(message)
            if reply is not None:
                with trio.fail_after(write_timeout_s):
                    await stream.send_all(encode_frame(reply))


async def ask(stream: trio.abc.HalfCloseableStream, request: Message) -> Message | None:
    """Send one request and read its answer. The caller sets the deadline and closes the stream.

    Args:
        stream: a fresh stream of this protocol.
        request: what to ask.

    Returns:
        The answer; None for ADD_PROVIDER, whose acceptance is the other side's clean end of stream.

    Raises:
        KadMessageError: malformed answer, or one to another question.
        ConnectionLostError: the stream ended before the answer.
        trio.BrokenResourceError: the stream broke, or the request was refused.
    """
    await stream.send_all(encode_frame(request))
    await stream.send_eof()
    decoder = FrameDecoder()
    while data := await stream.receive_some(READ_BYTES):
        messages = decoder.receive_data(data)
        if messages:
            if messages[0].type is not request.type:
                raise KadMessageError("answer to another question")
            return messages[0]
    if request.type is not MessageType.ADD_PROVIDER:
        raise ConnectionLostError("stream ended before the answer")
    return None

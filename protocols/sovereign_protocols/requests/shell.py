"""Streams of requests over trio: pumps bytes, sets deadlines, maps errors.

Source: protocols/specs/market.md, "States" and "Limits".
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import trio

from sovereign_crypto.certificate import CertificateError, verify_certificate
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.errors import ConnectionLostError
from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.core import ClientStream, ServerStream
from sovereign_protocols.requests.desk import Caller, Desk
from sovereign_protocols.requests.wire import Hello, Message, Refuse, RequestProtocol

GREETING_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 30.0
IDLE_TIMEOUT_S: Final = 60.0
_READ_BYTES: Final = 65_536

Answer = TypeVar("Answer", bound=Message)
#: Gives the identity, 32 bytes, that a certificate proves for a device key, 32 bytes, at a time.
PeerCheck = Callable[[bytes, bytes, int], Awaitable[bytes]]


def certificate_check(network_id: bytes = NETWORK_ID_MAIN) -> PeerCheck:
    """Make a check that trusts a certificate which proves its own identity, without looking at its log."""

    async def check(certificate: bytes, device_key: bytes, now: int) -> bytes:
        found = verify_certificate(certificate, now, device_pk=device_key, network_id=network_id)
        return found.identity_id

    return check


@dataclass(frozen=True)
class Introduction:
    """How this node says hello, and how it learns who the other side is.

    Args:
        certificate: of the own device.
        clock: Unix seconds UTC.
        network_id: 32 bytes.
        check: proves identities; None trusts a certificate alone.
    """

    certificate: bytes
    clock: Callable[[], int]
    network_id: bytes = NETWORK_ID_MAIN
    check: PeerCheck | None = None

    def hello(self) -> Hello:
        """Make the first message."""
        return Hello(self.clock(), self.certificate)

    async def identify(self, hello: Hello, device_key: bytes) -> Caller:
        """Judge the other side's first message.

        Args:
            hello: as received.
            device_key: key of the peer that the transport authenticated, 32 bytes.

        Raises:
            RefusedError: its clock (with peer_time) or its certificate is no good.
        """
        now = self.clock()
        if abs(hello.time - now) > CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        check = self.check or certificate_check(self.network_id)
        try:
            return Caller(await check(hello.certificate, device_key, now), device_key)
        except CertificateError as error:
            raise RefusedError(Reason.IDENTITY) from error


class RequestClient:
    """Asks one peer; use `open_client`. Not for several tasks at once.

    Args:
        stream: to the peer.
        core: ready for requests.
        peer: the peer's identity and device.
        network_id: 32 bytes.
    """

    PROTOCOL: ClassVar[RequestProtocol]

    def __init__(self, stream: trio.abc.Stream, core: ClientStream, peer: Caller, network_id: bytes) -> None:
        self._stream = stream
        self._core = core
        self._network_id = network_id
        self.peer = peer

    async def _ask(self, request: Message, expected: type[Answer]) -> Answer:
        """Send one request and wait for its answer.

        Args:
            request: to send.
            expected: the type of its answer.

        Raises:
            RefusedError: with the peer's reason.
            RemoteProtocolError: the peer broke the protocol.
            ConnectionLostError: no answer came.
        """
        with _deadline(ANSWER_TIMEOUT_S):
            await self._stream.send_all(self._core.ask(request))
            message = await _receive(self._stream, self._core)
        if isinstance(message, Refuse):
            raise message.to_error()
        assert isinstance(message, expected)
        return message


Client = TypeVar("Client", bound=RequestClient)


@asynccontextmanager
async def open_client(
    kind: type[Client], stream: trio.abc.Stream, introduction: Introduction, peer_device: bytes
) -> AsyncIterator[Client]:
    """Say hello to a peer.

    Args:
        kind: client of the protocol that is spoken.
        stream: a fresh stream of this protocol; it is closed at the end.
        introduction: of this node.
        peer_device: key of the peer that the transport authenticated, 32 bytes.

    Raises:
        RefusedError: one side refuses the other's clock (with peer_time) or certificate.
        ConnectionLostError: the stream ended.
    """
    core = ClientStream(kind.PROTOCOL)
    async with stream:
        with _deadline(GREETING_TIMEOUT_S):
            await stream.send_all(core.greet(introduction.hello()))
            hello = await _receive(stream, core)
        if isinstance(hello, Refuse):
            raise hello.to_error()
        assert isinstance(hello, Hello)
        peer = await introduction.identify(hello, peer_device)
        yield kind(stream, core, peer, introduction.network_id)


async def serve_requests(
    stream: trio.abc.Stream,
    desk: Desk[Any],
    protocol: RequestProtocol,
    introduction: Introduction,
    caller_device: bytes,
) -> None:
    """Answer one caller until it stops asking.

    Args:
        stream: a fresh stream of this protocol.
        desk: decides; its calls run in worker threads.
        protocol: that is spoken.
        introduction: of this node.
        caller_device: key of the peer that the transport authenticated, 32 bytes.

    Raises:
        RemoteProtocolError: the caller broke the protocol; reset the stream.
        ConnectionLostError: the caller went away or fell silent.
    """
    core = ServerStream(protocol)
    with _deadline(GREETING_TIMEOUT_S):
        hello = await _receive(stream, core)
        if hello is None:
            return
        assert isinstance(hello, Hello)
        try:
            caller = await introduction.identify(hello, caller_device)
        except RefusedError as refusal:
            await stream.send_all(core.refuse_greeting(Refuse.of(refusal)))
            return
        await stream.send_all(core.greet(introduction.hello()))
    while True:
        with _deadline(IDLE_TIMEOUT_S):
            request = await _receive(stream, core)
        if request is None:
            return
        answer = await trio.to_thread.run_sync(desk.handle, caller, request)
        with _deadline(ANSWER_TIMEOUT_S):
            await stream.send_all(core.answer(answer))


async def _receive(stream: trio.abc.Stream, core: ClientStream | ServerStream) -> Message | None:
    while (received := core.next_event()) is None:
        data = await stream.receive_some(_READ_BYTES)
        if not data:
            core.receive_eof()
            return None
        core.receive_data(bytes(data))
    return received.message


@contextmanager
def _deadline(timeout_s: float) -> Iterator[None]:
    try:
        with trio.fail_after(timeout_s):
            yield
    except trio.TooSlowError as error:
        raise ConnectionLostError(f"no answer within {timeout_s:g} s") from error
    except trio.BrokenResourceError as error:
        raise ConnectionLostError("the connection broke") from error

"""Market streams over trio: pumps bytes, sets deadlines, maps errors.

Source: protocols/specs/market.md.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Protocol, TypeVar

import trio

from sovereign_crypto.certificate import CertificateError, verify_certificate
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteProtocolError
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import SignedAct, parse_act
from sovereign_protocols.market.core import ClientStream, ServerStream
from sovereign_protocols.market.desk import Caller
from sovereign_protocols.market.offer import CLOCK_SKEW_S, SignedOffer, parse_offer
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement, SignedTerms, agree, parse_terms

GREETING_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 30.0
IDLE_TIMEOUT_S: Final = 60.0
_READ_BYTES: Final = 65_536

Answer = TypeVar("Answer", bound=m.Message)
#: Gives the identity, 32 bytes, that a certificate proves for a device key, 32 bytes, at a time.
PeerCheck = Callable[[bytes, bytes, int], Awaitable[bytes]]


class Desk(Protocol):
    """Whatever answers requests; blocking, called in a worker thread."""

    def handle(self, caller: Caller, request: m.Message) -> m.Message:
        """Answer one request."""
        ...


def certificate_check(network_id: bytes = NETWORK_ID_MAIN) -> PeerCheck:
    """Make a check that trusts a certificate which proves its own identity, without looking at its log."""

    async def check(certificate: bytes, device_key: bytes, now: int) -> bytes:
        found = verify_certificate(certificate, now, device_pk=device_key, network_id=network_id)
        return found.identity_id

    return check


async def _identify(check: PeerCheck, hello: m.Hello, device_key: bytes, now: int) -> bytes:
    if abs(hello.time - now) > CLOCK_SKEW_S:
        raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
    try:
        return await check(hello.certificate, device_key, now)
    except CertificateError as error:
        raise RefusedError(Reason.IDENTITY) from error


async def ask(stream: trio.abc.Stream, core: ClientStream, request: m.Message, expected: type[Answer]) -> Answer:
    """Send one request and wait for its answer.

    Args:
        stream: to the peer.
        core: ready for requests.
        request: to send.
        expected: the type of its answer.

    Raises:
        RefusedError: with the peer's reason.
        RemoteProtocolError: the peer broke the protocol.
        ConnectionLostError: no answer came.
    """
    with _deadline(ANSWER_TIMEOUT_S):
        await stream.send_all(core.ask(request))
        message = await _receive(stream, core)
    if isinstance(message, m.Refuse):
        raise message.to_error()
    assert isinstance(message, expected)
    return message


async def greet(
    stream: trio.abc.Stream,
    core: ClientStream,
    *,
    certificate: bytes,
    peer_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck,
) -> Caller:
    """Exchange hellos as the side that asks.

    Returns:
        The peer's identity and device.

    Raises:
        RefusedError: one side refuses the other's clock (with peer_time) or certificate.
        ConnectionLostError: the stream ended.
    """
    with _deadline(GREETING_TIMEOUT_S):
        await stream.send_all(core.greet(m.Hello(clock(), certificate)))
        hello = await _receive(stream, core)
    if isinstance(hello, m.Refuse):
        raise hello.to_error()
    assert isinstance(hello, m.Hello)
    return Caller(await _identify(check, hello, peer_device, clock()), peer_device)


class MarketClient:
    """Asks one provider; use `open_market`. Not for several tasks at once.

    Args:
        stream: to the provider.
        core: ready for requests.
        provider: the provider's identity and device.
        network_id: 32 bytes.
    """

    def __init__(self, stream: trio.abc.Stream, core: ClientStream, provider: Caller, network_id: bytes) -> None:
        self._stream = stream
        self._core = core
        self._network_id = network_id
        self.provider = provider

    async def _ask(self, request: m.Message, expected: type[Answer]) -> Answer:
        return await ask(self._stream, self._core, request, expected)

    async def offer(self) -> SignedOffer:
        """Ask for the current offer.

        Raises:
            RefusedError: the provider offers nothing.
            RemoteProtocolError: the offer is not the provider's.
        """
        answer = await self._ask(m.OfferQuery(), m.OfferAnswer)
        signed = parse_offer(answer.offer, self._network_id)
        if (signed.offer.identity, signed.offer.device) != (self.provider.identity, self.provider.device):
            raise RemoteProtocolError(ErrorCode.IDENTITY, "the offer of another provider")
        return signed

    async def propose(self, signed: SignedTerms) -> Agreement:
        """Propose a contract; repeating the same terms gives the same answer.

        Args:
            signed: by this side, the customer.

        Returns:
            The terms with both signatures.

        Raises:
            RefusedError: with the provider's reason.
        """
        return await self._agree(m.Propose(signed.raw), signed)

    async def amend(self, signed: SignedTerms) -> Agreement:
        """Propose the next revision of a contract; the one in force stays until both signed.

        Raises:
            RefusedError: with the provider's reason.
        """
        return await self._agree(m.Amend(signed.raw), signed)

    async def _agree(self, request: m.Message, signed: SignedTerms) -> Agreement:
        answer = await self._ask(request, m.Accept)
        return agree(signed, parse_terms(answer.terms, self._network_id))

    async def notice(self, signed: SignedAct) -> None:
        """Hand in a notice; returns when the provider has stored it.

        Raises:
            RefusedError: with the provider's reason.
        """
        answer = await self._ask(m.Notice(signed.raw), m.NoticeKept)
        if answer.hash != signed.statement_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the provider kept another notice")

    async def close(self, signed: SignedAct) -> SignedAct:
        """Close a contract.

        Returns:
            The close with the provider's signature.

        Raises:
            RefusedError: with the provider's reason.
        """
        answer = await self._ask(m.Close(signed.raw), m.Closed)
        closed = parse_act(answer.act, self._network_id)
        if closed.content_hash != signed.content_hash or closed.signer != self.provider.device:
            raise RemoteProtocolError(ErrorCode.SIGNATURE, "the provider signed something else")
        return closed

    async def latest_state(self, contract_id: bytes) -> m.LatestState:
        """Ask for everything that must be known after losing the own database.

        Raises:
            RefusedError: the contract is not the caller's.
        """
        return await self._ask(m.StateQuery(contract_id), m.LatestState)

    async def contracts(self) -> list[tuple[str, Agreement]]:
        """Ask for all contracts of the own identity.

        Returns:
            State and agreement of each.
        """
        found: list[tuple[str, Agreement]] = []
        after, more = bytes(32), True
        while more:
            page = await self._ask(m.ListQuery(after), m.ContractList)
            for contract_id, state, customer_raw, provider_raw in page.items:
                customer = parse_terms(customer_raw, self._network_id)
                agreement = agree(customer, parse_terms(provider_raw, self._network_id))
                if agreement.contract_id != contract_id or contract_id <= after:
                    raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the list is out of order")
                after = contract_id
                found.append((state, agreement))
            more = page.more and bool(page.items)
        return found


@asynccontextmanager
async def open_market(
    stream: trio.abc.Stream,
    *,
    certificate: bytes,
    provider_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck | None = None,
    network_id: bytes = NETWORK_ID_MAIN,
) -> AsyncIterator[MarketClient]:
    """Say hello to a provider.

    Args:
        stream: a fresh stream of this protocol; it is closed at the end.
        certificate: of the own device.
        provider_device: key of the peer that the transport authenticated, 32 bytes.
        clock: Unix seconds UTC.
        check: proves identities.
        network_id: 32 bytes.

    Raises:
        RefusedError: one side refuses the other's clock (with peer_time) or certificate.
        ConnectionLostError: the stream ended.
    """
    core = ClientStream()
    async with stream:
        provider = await greet(
            stream,
            core,
            certificate=certificate,
            peer_device=provider_device,
            clock=clock,
            check=check or certificate_check(network_id),
        )
        yield MarketClient(stream, core, provider, network_id)


async def serve_market(
    stream: trio.abc.Stream,
    desk: Desk,
    *,
    certificate: bytes,
    caller_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck | None = None,
    network_id: bytes = NETWORK_ID_MAIN,
) -> None:
    """Answer one caller until it stops asking.

    Args:
        stream: a fresh stream of this protocol.
        desk: decides; its calls run in worker threads.
        certificate: of the own device.
        caller_device: key of the peer that the transport authenticated, 32 bytes.
        clock: Unix seconds UTC.
        check: proves identities.
        network_id: 32 bytes.

    Raises:
        RemoteProtocolError: the caller broke the protocol; reset the stream.
        ConnectionLostError: the caller went away or fell silent.
    """
    await serve_requests(
        stream,
        desk,
        ServerStream(),
        certificate=certificate,
        caller_device=caller_device,
        clock=clock,
        check=check or certificate_check(network_id),
    )


async def serve_requests(
    stream: trio.abc.Stream,
    desk: Desk,
    core: ServerStream,
    *,
    certificate: bytes,
    caller_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck,
) -> None:
    """Answer one caller of any money protocol; see `serve_market`."""
    with _deadline(GREETING_TIMEOUT_S):
        hello = await _receive(stream, core)
        if hello is None:
            return
        assert isinstance(hello, m.Hello)
        try:
            identity = await _identify(check, hello, caller_device, clock())
        except RefusedError as refusal:
            await stream.send_all(core.refuse_greeting(m.Refuse.of(refusal)))
            return
        await stream.send_all(core.greet(m.Hello(clock(), certificate)))
    caller = Caller(identity, caller_device)
    while True:
        with _deadline(IDLE_TIMEOUT_S):
            request = await _receive(stream, core)
        if request is None:
            return
        answer = await trio.to_thread.run_sync(desk.handle, caller, request)
        with _deadline(ANSWER_TIMEOUT_S):
            await stream.send_all(core.answer(answer))


async def _receive(stream: trio.abc.Stream, core: ClientStream | ServerStream) -> m.Message | None:
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

"""Desks: they answer requests of authenticated callers, and turn what goes wrong into a refusal.

Source: protocols/specs/market.md, "Errors".
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.wire import Message, Refuse

Book = TypeVar("Book")


@dataclass(frozen=True)
class Caller:
    """Who asks: the connection's device and the identity that its certificate proves."""

    identity: bytes
    device: bytes


class CallCounter:
    """Counts what each device asks for within a span of time, so that nobody keeps a desk busy."""

    def __init__(self) -> None:
        self._span = 0
        self._calls: dict[bytes, int] = {}

    def take(self, device: bytes, span: int, most: int) -> None:
        """Count one request.

        Args:
            device: that asks, 32 bytes.
            span: number of the span that runs now; the count begins anew with each.
            most: how many requests a device has in a span.

        Raises:
            RefusedError: reason busy.
        """
        if span != self._span:
            self._span, self._calls = span, {}
        self._calls[device] = self._calls.get(device, 0) + 1
        if self._calls[device] > most:
            raise RefusedError(Reason.BUSY)


class Desk(ABC, Generic[Book]):
    """Answers requests of one protocol; blocking, called in a worker thread.

    Args:
        device_key: signs what is answered.
        book: where everything is kept.
        clock: Unix seconds UTC.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        *,
        device_key: SigningKey,
        book: Book,
        clock: Callable[[], int],
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._key = device_key
        self._book = book
        self._clock = clock
        self._network_id = network_id
        self._calls = CallCounter()

    def handle(self, caller: Caller, request: Message) -> Message:
        """Answer one request.

        Args:
            caller: authenticated.
            request: a request of the protocol.

        Returns:
            Its answer, or a refusal.
        """
        try:
            return self._answer(caller, request)
        except RefusedError as refusal:
            return Refuse.of(refusal)
        except RemoteProtocolError as error:
            reason = Reason.SIGNATURE if error.code is ErrorCode.SIGNATURE else Reason.MALFORMED
            return Refuse(reason.value, {})

    @abstractmethod
    def _answer(self, caller: Caller, request: Message) -> Message:
        """Answer one request, or raise what the caller is told."""

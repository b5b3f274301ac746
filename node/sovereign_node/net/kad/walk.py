"""Driving one lookup: start the calls it names, feed it what comes back, wake it when time has passed."""

import math
from collections.abc import Callable

import trio

from sovereign_node.net.kad.caller import Caller, CallFailedError, Suspects
from sovereign_protocols.kad.lookup import Lookup
from sovereign_protocols.kad.messages import Contact, Message

# Called with each answer as it arrives; may end the lookup by ``lookup.stop()``.
AnswerHook = Callable[[Contact, Message], None]


async def walk(
    lookup: Lookup,
    question: Message,
    caller: Caller,
    suspects: Suspects,
    *,
    on_answer: AnswerHook,
    on_failure: Callable[[Contact], None],
    slow_s: float,
) -> None:
    """Run a lookup to its end.

    Args:
        lookup: where to go, with its first candidates.
        question: asked of every candidate.
        caller: asks it.
        suspects: peers that answers may name but that are not worth asking now.
        on_answer: called with each answer, after the lookup took it in.
        on_failure: called for each peer that did not answer.
        slow_s: a peer silent for so long when the lookup ends counts as a failure, in seconds.
    """
    progress = _Bell()

    async def ask(contact: Contact) -> None:
        try:
            answer = await caller.call(contact, question)
        except CallFailedError:
            lookup.receive_failure(contact.peer_id, trio.current_time())
            on_failure(contact)
        else:
            closer = answer.closer_peers if answer is not None else ()
            worthwhile = [peer for peer in closer if peer.addresses and peer.peer_id not in suspects]
            lookup.receive_answer(contact.peer_id, worthwhile, trio.current_time())
            if answer is not None:
                on_answer(contact, answer)
        progress.ring()

    async with trio.open_nursery() as nursery:
        while True:
            for contact in lookup.next_calls(trio.current_time()):
                nursery.start_soon(ask, contact)
            if lookup.finished:
                break
            timer = lookup.next_timer()
            with trio.move_on_at(math.inf if timer is None else timer):
                await progress.wait()
            lookup.handle_timer(trio.current_time())
        for contact in lookup.silent(trio.current_time(), slow_s):
            on_failure(contact)
        nursery.cancel_scope.cancel()


class _Bell:
    """An event that can ring many times."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()

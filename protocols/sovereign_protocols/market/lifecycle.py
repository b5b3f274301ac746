"""The life of a contract as one table; the diagram in the specification is drawn from it.

Source: protocols/specs/market.md, "States".
"""

from enum import StrEnum, unique
from typing import Final

from sovereign_protocols.errors import LocalProtocolError


@unique
class ContractState(StrEnum):
    """Where a contract is in its life."""

    PROPOSED = "proposed"
    ACTIVE = "active"
    RENEWING = "renewing"
    LIMITED = "limited"
    GRACE = "grace"
    ENDING = "ending"
    CLOSED = "closed"
    DEFAULTED = "defaulted"
    TERMINATED = "terminated"


@unique
class ContractEvent(StrEnum):
    """What moves a contract on."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    RENEWAL_PROPOSED = "renewal_proposed"
    REVISED = "revised"
    CREDIT_EXHAUSTED = "credit_exhausted"
    PAID = "paid"
    PAYMENT_OVERDUE = "payment_overdue"
    FINAL_NOTICE_EXPIRED = "final_notice_expired"
    EXIT_NOTICE = "exit_notice"
    END_REACHED = "end_reached"
    BROKEN = "broken"
    CLOSED = "closed"


_S = ContractState
_E = ContractEvent

TRANSITIONS: Final[dict[tuple[ContractState, ContractEvent], ContractState]] = {
    (_S.PROPOSED, _E.ACCEPTED): _S.ACTIVE,
    (_S.PROPOSED, _E.REFUSED): _S.CLOSED,
    (_S.ACTIVE, _E.RENEWAL_PROPOSED): _S.RENEWING,
    (_S.ACTIVE, _E.REVISED): _S.ACTIVE,
    (_S.ACTIVE, _E.CREDIT_EXHAUSTED): _S.LIMITED,
    (_S.ACTIVE, _E.PAYMENT_OVERDUE): _S.GRACE,
    (_S.ACTIVE, _E.EXIT_NOTICE): _S.ENDING,
    (_S.ACTIVE, _E.END_REACHED): _S.ENDING,
    (_S.ACTIVE, _E.BROKEN): _S.TERMINATED,
    (_S.RENEWING, _E.REVISED): _S.ACTIVE,
    (_S.RENEWING, _E.REFUSED): _S.ACTIVE,
    (_S.RENEWING, _E.CREDIT_EXHAUSTED): _S.LIMITED,
    (_S.RENEWING, _E.PAYMENT_OVERDUE): _S.GRACE,
    (_S.RENEWING, _E.EXIT_NOTICE): _S.ENDING,
    (_S.RENEWING, _E.END_REACHED): _S.ENDING,
    (_S.RENEWING, _E.BROKEN): _S.TERMINATED,
    (_S.LIMITED, _E.PAID): _S.ACTIVE,
    (_S.LIMITED, _E.REVISED): _S.LIMITED,
    (_S.LIMITED, _E.PAYMENT_OVERDUE): _S.GRACE,
    (_S.LIMITED, _E.EXIT_NOTICE): _S.ENDING,
    (_S.LIMITED, _E.END_REACHED): _S.ENDING,
    (_S.LIMITED, _E.BROKEN): _S.TERMINATED,
    (_S.GRACE, _E.PAID): _S.ACTIVE,
    (_S.GRACE, _E.FINAL_NOTICE_EXPIRED): _S.DEFAULTED,
    (_S.GRACE, _E.EXIT_NOTICE): _S.ENDING,
    (_S.GRACE, _E.BROKEN): _S.TERMINATED,
    (_S.ENDING, _E.REVISED): _S.ACTIVE,
    (_S.ENDING, _E.PAYMENT_OVERDUE): _S.GRACE,
    (_S.ENDING, _E.BROKEN): _S.TERMINATED,
    (_S.ENDING, _E.CLOSED): _S.CLOSED,
    (_S.DEFAULTED, _E.PAID): _S.ENDING,
    (_S.DEFAULTED, _E.CLOSED): _S.CLOSED,
    (_S.TERMINATED, _E.CLOSED): _S.CLOSED,
}

#: New chunks are taken.
UPLOAD_STATES: Final = frozenset({_S.ACTIVE, _S.RENEWING})
#: Stored chunks are served and heads are read.
READ_STATES: Final = frozenset(_S) - {_S.PROPOSED, _S.CLOSED}
#: The provider keeps the capacity free.
COMMITTED_STATES: Final = READ_STATES
#: New terms may be agreed.
AMENDABLE_STATES: Final = frozenset(state for state, event in TRANSITIONS if event is _E.REVISED)


def advance(state: ContractState, event: ContractEvent) -> ContractState:
    """Move a contract on.

    Raises:
        LocalProtocolError: the table has no such move; nothing may change.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise LocalProtocolError(f"{event.value} cannot happen to a contract that is {state.value}") from None


def can_advance(state: ContractState, event: ContractEvent) -> bool:
    """Tell whether the table has a move."""
    return (state, event) in TRANSITIONS

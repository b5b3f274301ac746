"""Who may store and read here: the customer of a contract, as far as its state allows."""

from __future__ import annotations

from sovereign_node.services.provide import ContractGrant, Right
from sovereign_node.services.provide import ContractState as GrantState
from sovereign_node.store import State
from sovereign_protocols.market.lifecycle import READ_STATES, UPLOAD_STATES, ContractState


class StateAuthorizer:
    """Answers from storage_contracts.

    Args:
        state: open state database.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def authorize(
        self, identity_id: bytes, device_pk: bytes, contract_id: bytes, right: Right
    ) -> ContractGrant | None:
        """See Authorizer. Whether the device speaks for the identity was checked when it said hello."""
        contract = self._state.contracts.get(contract_id)
        if contract is None or contract.role != "provider" or contract.customer_identity != identity_id:
            return None
        state = ContractState(contract.state)
        granted = GrantState.ENDED
        if state in UPLOAD_STATES:
            granted = GrantState.ACTIVE
        elif state in (ContractState.LIMITED, ContractState.GRACE):
            granted = GrantState.UNPAID
        elif state in READ_STATES:
            granted = GrantState.READ_ONLY
        return ContractGrant(contract.capacity_bytes, granted, contract.grace_s)

    def is_customer(self, identity_id: bytes) -> bool:
        """See Authorizer."""
        return bool(self._state.contracts.all(role="provider", customer_identity=identity_id))

"""Peers with whom this node has more to do than with others: own devices, providers, customers."""

from __future__ import annotations

from sovereign_crypto.errors import FormatError
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.store import State
from sovereign_protocols.market.lifecycle import READ_STATES


class Friends:
    """Answers from the registry and the contracts.

    Args:
        identity: whose devices are own ones.
        contracts: where this identity stores.
        state: device_registry, and the contracts of customers.
        keys: of this device.
    """

    def __init__(self, identity: OwnIdentity, contracts: Contracts, state: State, keys: DeviceKeys) -> None:
        self._identity = identity
        self._contracts = contracts
        self._state = state
        self._keys = keys

    def always_on(self) -> list[str]:
        """List peer ids of machines that are always on: own servers and providers, then those under contract."""
        own = [
            device.peer_id
            for device in self._state.devices.all(identity=self._identity.identity_id, include_revoked=False)
            if {"server", "provider"} & set(device.roles) and device.device_id != self._keys.public
        ]
        return [*own, *sorted(self._contracts.provider_peer_ids() - set(own))]

    def is_friend(self, peer_id: str) -> bool:
        """Say whether the peer is an own device, a provider of ours, or a customer's device."""
        try:
            device_id = public_key_from_peer_id(peer_id)
        except FormatError:
            return False
        if self._identity.is_own_device(device_id) or peer_id in self._contracts.provider_peer_ids():
            return True
        device = self._state.devices.get(device_id)
        served = self._state.contracts.all(role="provider", states=[state.value for state in READ_STATES])
        return any(
            item.customer_device == device_id or (device is not None and item.customer_identity == device.identity)
            for item in served
        )

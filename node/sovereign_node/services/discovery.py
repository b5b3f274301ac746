"""What this node says about itself in the DHT, and what it learns of own devices and providers there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_crypto.identity import CertificateError
from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_node.clock import Clock
from sovereign_node.config import Config
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.network import Network
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.setup import main_role
from sovereign_node.store import State
from sovereign_node.store.devices import Device
from sovereign_protocols.discovery.keys import OFFERS_RENDEZVOUS, offer_key, peer_record_key
from sovereign_protocols.discovery.records import (
    MAX_ADDRESSES,
    MAX_VALIDITY_S,
    PeerRecord,
    SignedPeerRecord,
    parse_peer_record,
    sign_peer_record,
)
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.market.offer import SignedOffer, parse_offer

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

TABLE_KEY = "dht_table"
OFFER_INTERVAL_S = 20 * 60
ADDRESS_CHECK_INTERVAL_S = 5.0
MAX_OFFERS = 40
# Enough for a table that is still filling; a device that has just started answers "not found" sooner.
LOOKUP_TIMEOUT_S = 12.0


class Discovery:
    """Publishes this device's record and offer, and reads those of others.

    Args:
        network: for the addresses to publish.
        kademlia: the DHT.
        config: name, roles, announced addresses.
        identity: whose device this is.
        keys: signs the record.
        state: device_registry, known peers, routing table of the last run.
        clock: wall time.
        make_offer: makes the offer to publish now; None if this device never offers.
    """

    def __init__(
        self,
        network: Network,
        kademlia: Kademlia,
        config: Config,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        clock: Clock,
        make_offer: Callable[[], SignedOffer] | None,
    ) -> None:
        self._network = network
        self._kademlia = kademlia
        self._config = config
        self._identity = identity
        self._keys = keys
        self._state = state
        self._clock = clock
        self._make_offer = make_offer
        self._record_seq = 0
        self.joined = trio.Event()

    def addresses(self) -> list[str]:
        """Return the multiaddrs to publish."""
        return published_addresses(self._config, self._network)

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Join the DHT, publish, again in time, and at once when addresses change; run until cancelled."""
        task_status.started()
        await self._join()
        await self._kademlia.publish(peer_record_key(self._keys.public), self._make_record)
        if self._make_offer is not None:
            make_offer = self._make_offer
            await self._kademlia.provide(OFFERS_RENDEZVOUS)
            await self._kademlia.publish(
                offer_key(self._keys.public), lambda: make_offer().raw, interval_s=OFFER_INTERVAL_S
            )
        published = self.addresses()
        while True:
            await trio.sleep(ADDRESS_CHECK_INTERVAL_S)
            if self.addresses() != published:
                published = self.addresses()
                self._kademlia.announce_soon()

    async def _join(self) -> None:
        """Ask the bootstrap peers and those of the last run; what is published before would reach nobody."""
        saved = await trio.to_thread.run_sync(self._state.meta.get, TABLE_KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kademlia.bootstrap, self._config.net.bootstrap)
            if saved:
                nursery.start_soon(self._kademlia.restore, json.loads(saved))
        self.joined.set()

    async def find_offers(self) -> list[SignedOffer]:
        """Ask the DHT for all offers that are valid now, this node's own left out."""
        providers = await self._kademlia.find_providers(OFFERS_RENDEZVOUS, MAX_OFFERS)
        found: list[SignedOffer] = []

        async def fetch(peer_id: str, addresses: tuple[str, ...]) -> None:
            device_id = public_key_from_peer_id(peer_id)
            with trio.move_on_after(LOOKUP_TIMEOUT_S):
                raw = await self._kademlia.get(offer_key(device_id))
                if raw is None:
                    return
                try:
                    offer = parse_offer(raw, self._identity.network_id)
                except RemoteProtocolError as error:
                    log.info("offer_refused", peer_id=peer_id, reason=str(error))
                    return
                if offer.offer.device == device_id and offer.is_valid_at(self._clock()):
                    found.append(offer)
                    await self._learn(peer_id, addresses, offer.offer.name)

        async with trio.open_nursery() as nursery:
            for provider in providers:
                nursery.start_soon(fetch, provider.peer_id, provider.addresses)
        return sorted(found, key=lambda item: (item.offer.price_per_gb_month, item.offer.device))

    async def find_record(self, device_id: bytes) -> SignedPeerRecord | None:
        """Ask the DHT for a device's record and remember its addresses.

        Args:
            device_id: Ed25519 key of the device, 32 bytes.
        """
        raw: bytes | None = None
        with trio.move_on_after(LOOKUP_TIMEOUT_S):
            raw = await self._kademlia.get(peer_record_key(device_id))
        if raw is None:
            return None
        try:
            signed = parse_peer_record(raw, self._identity.network_id)
        except RemoteProtocolError as error:
            log.info("peer_record_refused", reason=str(error))
            return None
        await self._learn(peer_id_from_public_key(device_id), signed.record.addresses, signed.record.name)
        return signed

    async def find_addresses(self, peer_id: str) -> tuple[str, ...]:
        """Ask the DHT for the addresses that a device published about itself, empty if there are none.

        Args:
            peer_id: base58 text.
        """
        signed = await self.find_record(public_key_from_peer_id(peer_id))
        return () if signed is None else signed.record.addresses

    async def refresh_devices(
        self, provider_ids: set[bytes], is_due: Callable[[bytes], bool] = lambda _device_id: True
    ) -> None:
        """Bring device_registry in line with what own devices and providers under contract publish.

        Args:
            provider_ids: device keys of the providers, 32 bytes each.
            is_due: which of the devices to ask for.
        """
        async with trio.open_nursery() as nursery:
            for device_id in {*self._identity.log.active_devices, *provider_ids} - {self._keys.public}:
                if is_due(device_id):
                    nursery.start_soon(self._refresh_device, device_id)

    async def _refresh_device(self, device_id: bytes) -> None:
        signed = await self.find_record(device_id)
        if signed is None:
            return
        try:
            if self._identity.is_own_device(device_id):
                self._identity.log.check_certificate(signed.certificate, self._clock())
            elif not signed.certificate.self_certified:
                return
        except CertificateError as error:
            log.info("device_record_refused", reason=str(error))
            return
        await trio.to_thread.run_sync(self._save_device, signed)

    def _save_device(self, signed: SignedPeerRecord) -> None:
        record = signed.record
        known = self._state.devices.get(record.device)
        row = Device(
            device_id=record.device,
            device_name=record.name,
            device_type=main_role(record.roles),
            peer_id=peer_id_from_public_key(record.device),
            added_at=self._clock(),
            roles=record.roles,
            identity=signed.certificate.identity_id,
            addresses=record.addresses,
            capabilities=int(signed.certificate.caps),
            certificate=signed.certificate.raw,
            is_online=self._network.is_connected(peer_id_from_public_key(record.device)),
            last_seen=known.last_seen if known else None,
        )
        self._state.devices.save(row)

    def _make_record(self) -> bytes:
        now = self._clock()
        # Grows over restarts without a write to disk, which this, called by the event loop, could not wait for.
        self._record_seq = max(self._record_seq + 1, now)
        record = PeerRecord(
            device=self._keys.public,
            certificate=self._identity.certificate.raw,
            addresses=tuple(self.addresses()),
            roles=self._config.roles,
            name=self._config.name,
            seq=self._record_seq,
            issued_at=now,
            expires_at=now + MAX_VALIDITY_S,
        )
        return sign_peer_record(record, self._keys.signing, self._identity.network_id).raw

    async def _learn(self, peer_id: str, addresses: tuple[str, ...], name: str) -> None:
        await trio.to_thread.run_sync(
            lambda: self._state.peers.learn(peer_id, addresses, source="dht", at=self._clock(), name=name)
        )


def published_addresses(config: Config, network: Network) -> list[str]:
    """Return the multiaddrs that others are told: the configured ones, else the found ones."""
    announced = [_with_peer_id(address, network.peer_id) for address in config.net.announce]
    return (announced or network.addresses())[:MAX_ADDRESSES]


def _with_peer_id(address: str, peer_id: str) -> str:
    return address if "/p2p/" in address else f"{address}/p2p/{peer_id}"

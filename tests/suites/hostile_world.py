"""Real nodes under attack: a provider with an honest customer, and a customer who means harm.

The nodes are processes; the attackers run in the test, with the keys and certificates of their devices.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import trio

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.cluster import Cluster
from sovereign_devnet.member import Member
from sovereign_node.clock import wall_clock
from sovereign_node.config import load_config, save_config
from sovereign_node.keys import load_device_keys
from sovereign_node.net.errors import DialError
from sovereign_node.net.host import open_network
from sovereign_node.net.network import Network
from sovereign_node.network_id import network_id_of
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.store import open_state
from sovereign_protocols.chunk import PROTOCOL_ID as CHUNK
from sovereign_protocols.chunk.client import ChunkClient, Credentials, open_chunk_client

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
#: Stands in names and contents of what is backed up, and must be nowhere else.
MARKER = "zebra-7f3a-marker"
MALLORYS_BYTES = 10_000_000


@dataclass
class Thief:
    """The keys of a device in the hands of somebody who writes his own client."""

    key: SigningKey
    credentials: Credentials
    contract_id: bytes


PLACES = 60


class HostileWorld:
    """A provider that is attacked, a laptop that must not notice, and Mallory's device, which is stopped.

    Args:
        folder: for everything on disk.
    """

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(folder, passphrase=f"{MARKER} passphrase")
        self.source = folder / f"{MARKER}-folder"
        self.source.mkdir()

    def set_up(self) -> None:
        """Start the nodes; some ten seconds."""
        self.provider = self.cluster.create("provider", ["provider"], capacity="20GB")
        # Few places, so that a handful of attackers fills them.
        settings = self.provider.data_dir.config
        config = load_config(settings)
        save_config(replace(config, net=replace(config.net, max_connections=PLACES)), settings)
        (status,) = self.cluster.up(self.provider)
        self.peer_id: str = status["peer_id"]
        self.address: str = status["addresses"][0]
        self.laptop = self._customer("laptop")
        mallory = self._customer("mallory")
        self.laptop_contract = self._open_contract(self.laptop, 1_000_000_000)
        contract = self._open_contract(mallory, MALLORYS_BYTES)
        mallory.stop()
        self.thief = take_keys(mallory, contract)
        self.write(100_000)
        self.laptop.run("protect", str(self.source), "--name", f"{MARKER}-project")
        self.back_up()

    def write(self, size: int) -> None:
        """Put a new file of random bytes, and of the marker, into what is protected."""
        path = self.source / f"{MARKER}-{secrets.token_hex(4)}.bin"
        path.write_bytes(MARKER.encode() + os.urandom(size))

    def back_up(self) -> Any:
        """Do an honest backup through the running laptop and expect it to be whole."""
        report = self.laptop.run("backup", f"{MARKER}-project")
        assert not report["partial"], report
        assert report["targets"] == ["provider"], report
        return report

    def memory_bytes(self) -> int:
        """Resident memory of the provider's process."""
        assert self.provider.pid is not None
        return int(psutil.Process(self.provider.pid).memory_info().rss)

    def log(self) -> str:
        """What the provider has logged so far."""
        return self.provider.log_file.read_text("utf-8", "replace")

    @asynccontextmanager
    async def attacker(self, key: SigningKey | None = None) -> AsyncIterator[Network]:
        """Run a host that is connected to the provider.

        Args:
            key: whose peer id to have; a new one if None.
        """
        async with open_network(key or SigningKey.generate(), listen=[]) as network:
            # As a node does that wants a peer: again, until there is room.
            with trio.fail_after(10):
                while not network.is_connected(self.peer_id):
                    try:
                        await network.connect(self.peer_id, [self.address])
                    except DialError:
                        await trio.sleep(0.1)
            yield network

    @asynccontextmanager
    async def chunk_client(self, network: Network, credentials: Credentials | None) -> AsyncIterator[ChunkClient]:
        """Speak the chunk protocol to the provider."""
        stream = await network.open_stream(self.peer_id, CHUNK)
        async with open_chunk_client(stream, credentials, clock_at=wall_clock()) as client:
            yield client

    def _customer(self, name: str) -> Member:
        member = self.cluster.create(name, ["mobile"], bootstrap=[self.address])
        self.cluster.up(member)
        return member

    def _open_contract(self, member: Member, capacity_bytes: int) -> bytes:
        contract = member.run("contract", "open", self.peer_id, "--capacity", str(capacity_bytes))
        return bytes.fromhex(contract["id"])


def take_keys(member: Member, contract_id: bytes) -> Thief:
    """Read the keys of a stopped device from its disk."""
    keys = load_device_keys(member.data_dir)
    state = open_state(member.data_dir.state)
    try:
        config = load_config(member.data_dir.config)
        identity = OwnIdentity(member.data_dir, state, keys, network_id_of(config))
        credentials = Credentials(identity.certificate.raw, identity.log.entries)
    finally:
        state.close()
    return Thief(keys.signing, credentials, contract_id)

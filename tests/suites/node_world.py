"""Nodes in one process: real networks, stores and databases, driven through the operations of the local API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from sovereign_crypto.recovery import RecoveryKit
from sovereign_node.api.operations import parse_parameters
from sovereign_node.app import open_node
from sovereign_node.clock import Clock, wall_clock
from sovereign_node.config import load_config, with_overrides
from sovereign_node.datadir import DataDir
from sovereign_node.node import Node
from sovereign_node.operations.table import all_operations
from sovereign_node.services.join import JoinResult, join_identity
from sovereign_node.services.setup import DeviceOptions, create_identity

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
PASSPHRASE = "correct horse"


class Calendar:
    """Wall time that a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead_s


@dataclass
class Device:
    """A running node and how to ask it."""

    node: Node

    @property
    def address(self) -> str:
        return self.node.network.addresses()[0]

    async def ask(self, operation: str, **parameters: Any) -> Any:
        """Run an operation as the local API would; progress is collected and dropped."""
        entry = all_operations(self.node)[operation]

        async def report(_progress: dict[str, Any]) -> None:
            return

        return await entry.run(parse_parameters(entry.parameters, parameters), report)


class World:
    """Makes devices below one folder, each running in a task of its own; all of them stop at the end."""

    def __init__(self, root: Path, nursery: trio.Nursery, clock: Clock = wall_clock) -> None:
        self.root = root
        self._clock = clock
        self._nursery = nursery
        self.kits: dict[str, RecoveryKit] = {}
        self.kit_texts: dict[str, str] = {}
        self._running: dict[str, tuple[trio.Event, trio.Event]] = {}

    def make(self, name: str, *roles: str, capacity_bytes: int = 1_000_000_000) -> None:
        options = DeviceOptions(name, roles, listen=LOOPBACK, capacity_bytes=capacity_bytes)
        made = create_identity(self.root / name, options, PASSPHRASE)
        self.kits[name], self.kit_texts[name] = made.kit, made.kit_text

    async def start(self, name: str, *bootstrap: str, clock: Clock | None = None) -> Device:
        device: Device = await self._nursery.start(self._run, name, bootstrap, clock or self._clock)
        return device

    async def _run(self, name: str, bootstrap: tuple[str, ...], clock: Clock, task_status: Any) -> None:
        data_dir = DataDir(self.root / name)
        config = with_overrides(load_config(data_dir.config), bootstrap=bootstrap)
        stopping, stopped = self._running[name] = trio.Event(), trio.Event()
        try:
            async with open_node(data_dir, config, stop=stopping.set, clock=clock) as node:
                task_status.started(Device(node))
                await stopping.wait()
        finally:
            stopped.set()

    async def stop(self, name: str) -> None:
        stopping, stopped = self._running.pop(name)
        stopping.set()
        await stopped.wait()

    async def stop_all(self) -> None:
        for name in list(self._running):
            await self.stop(name)

    async def join(self, name: str, kit_of: str, bootstrap: str, *roles: str) -> JoinResult:
        options = DeviceOptions(name, roles or ("mobile",), bootstrap=(bootstrap,), listen=LOOPBACK)
        return await join_identity(self.root / name, self.kits[kit_of], options, PASSPHRASE, lambda _text: None)


@asynccontextmanager
async def open_world(root: Path, clock: Clock = wall_clock) -> AsyncIterator[World]:
    """Serve the block with an empty world."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        world = World(root, nursery, clock)
        try:
            yield world
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery
            failure = error
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(20):
                await world.stop_all()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure

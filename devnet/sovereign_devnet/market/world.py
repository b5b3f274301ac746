"""Nodes of many people in one process, with one clock that the story moves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keyring
import keyring.backends.null
import trio

from sovereign_node.api.operations import parse_parameters
from sovereign_node.app import open_node
from sovereign_node.config import load_config, save_config, with_overrides
from sovereign_node.datadir import DataDir
from sovereign_node.node import Node
from sovereign_node.operations.table import all_operations
from sovereign_node.services.setup import DeviceOptions, create_identity

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
#: A megabyte stands for a gigabyte.
PRICE_FACTOR = 1000
STOP_TIMEOUT_S = 20


class ScaledClock:
    """Simulated seconds UTC; moved by the story, at most so many for each real second.

    Args:
        start_at: Unix seconds UTC.
        speed: simulated seconds in a real one; 0 for no limit.
    """

    def __init__(self, start_at: int, speed: int) -> None:
        self.start_at = start_at
        self._now = start_at
        self._speed = speed
        self._began = time.monotonic()

    def __call__(self) -> int:
        """Return the simulated time."""
        return self._now

    async def advance(self, seconds: int) -> None:
        """Let simulated time pass."""
        self._now += seconds
        if self._speed:
            due = self._began + (self._now - self.start_at) / self._speed
            await trio.sleep(max(0.0, due - time.monotonic()))

    @property
    def reached_speed(self) -> float:
        """Simulated seconds in a real one, so far."""
        return (self._now - self.start_at) / max(0.001, time.monotonic() - self._began)


@dataclass
class Running:
    """A node and how to end it."""

    node: Node
    stopping: trio.Event
    stopped: trio.Event


class World:
    """Makes and runs nodes below one folder.

    Args:
        root: new folder.
        nursery: in which nodes run.
        clock: of all nodes.
    """

    def __init__(self, root: Path, nursery: trio.Nursery, clock: ScaledClock) -> None:
        self.root = root
        self.clock = clock
        self._nursery = nursery
        self._running: dict[str, Running] = {}
        self._bootstrap: tuple[str, ...] = ()

    async def create(self, name: str, role: str, *, bonus_permille: int = 1000) -> Node:
        """Create an identity with one device, and start it; the first one is asked by all others."""

        def make() -> None:
            options = DeviceOptions(name, (role,), listen=(LOOPBACK,), capacity_bytes=10**9)
            create_identity(self.root / name, options, "devnet passphrase")
            path = DataDir(self.root / name).config
            config = load_config(path)
            provider = replace(
                config.provider,
                reserve_bytes=0,
                price_micro_vibe_per_gb_month=config.provider.price_micro_vibe_per_gb_month * PRICE_FACTOR,
                price_micro_vibe_per_gb_transfer=config.provider.price_micro_vibe_per_gb_transfer * PRICE_FACTOR,
                uptime_bonus_permille=bonus_permille,
            )
            save_config(replace(config, provider=provider, net=replace(config.net, mdns=False)), path)

        await trio.to_thread.run_sync(make)
        node = await self.start(name)
        if not self._bootstrap:
            self._bootstrap = tuple(node.network.addresses()[:1])
        return node

    async def start(self, name: str) -> Node:
        """Start a node that was created before."""
        running: Running = await self._nursery.start(self._run, name)
        self._running[name] = running
        return running.node

    async def stop(self, name: str) -> None:
        """Stop a node and wait until it is gone."""
        running = self._running.pop(name)
        running.stopping.set()
        await running.stopped.wait()

    async def stop_all(self) -> None:
        """Stop every node."""
        for name in list(self._running):
            await self.stop(name)

    def node(self, name: str) -> Node:
        """Return a running node."""
        return self._running[name].node

    def is_running(self, name: str) -> bool:
        """Tell whether a node runs."""
        return name in self._running

    async def ask(self, who: str, operation: str, /, **parameters: Any) -> Any:
        """Run an operation of a node's local API."""
        entry = all_operations(self.node(who))[operation]

        async def report(_progress: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()

        return await entry.run(parse_parameters(entry.parameters, parameters), report)

    async def _run(self, name: str, task_status: Any) -> None:
        data_dir = DataDir(self.root / name)
        stopping, stopped = trio.Event(), trio.Event()
        try:
            with data_dir.locked():
                config = with_overrides(load_config(data_dir.config), bootstrap=self._bootstrap)
                async with open_node(data_dir, config, stop=stopping.set, clock=self.clock) as node:
                    task_status.started(Running(node, stopping, stopped))
                    await stopping.wait()
        finally:
            stopped.set()


@contextmanager
def without_keyring() -> Iterator[None]:
    """Serve the block without the user's keyring: a hurried story must not ask it for a dozen devices."""
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    try:
        yield
    finally:
        keyring.set_keyring(before)


@asynccontextmanager
async def open_world(root: Path, clock: ScaledClock) -> AsyncIterator[World]:
    """Serve the block with an empty world; all nodes are stopped at its end."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        world = World(root, nursery, clock)
        try:
            yield world
        except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it into a group
            failure = error
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(STOP_TIMEOUT_S):
                await world.stop_all()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure

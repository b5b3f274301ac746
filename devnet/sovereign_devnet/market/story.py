"""The months of the market: who does what on which day, and what must have come of it in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from sovereign_devnet.market import deeds
from sovereign_devnet.market.findings import Findings
from sovereign_devnet.market.world import ScaledClock, World, open_world, without_keyring
from sovereign_devnet.report import Check, Report, Step
from sovereign_node.errors import NodeError
from sovereign_node.store.contracts import Contract
from sovereign_protocols.probe.windows import WINDOW_S, window_of

DAY_S: Final = 86_400
MONTH_DAYS: Final = 30
MB: Final = 1_000_000
PROVIDERS: Final = ("good", "leaky", "flaky")
#: customer -> providers; alice keeps two copies.
CUSTOMERS: Final[dict[str, tuple[str, ...]]] = {
    "alice": ("good", "leaky"),
    "bob": ("flaky",),
    "carol": ("good",),
    "dave": ("good",),
    "erin": ("flaky",),
    "frank": ("good",),
}
#: Whose uptime bonus the sponsor pays.
SPONSORED: Final = "dave"
CHEAT_DAY: Final = 4
BACKUP_DAY, RESTORE_DAY = 5, 6
LOSS_DAY: Final = 12
UNPAID_DAY: Final = 10
OVER_METER_DAY: Final = 14
#: 20 windows of 1008 in a week are 2 %.
OUTAGE_WINDOWS: Final = 20
OUTAGE_FROM: Final = 60


@dataclass(frozen=True)
class MarketOptions:
    """How the story is told.

    Args:
        folder: new; for everything on disk.
        days: how long.
        speed: simulated seconds in a real one at most; 0 for no limit.
        seed: of files and choices.
    """

    folder: Path
    days: int = 3 * MONTH_DAYS
    speed: int = 86_400
    seed: int = 1


@dataclass
class Cast:
    """Contracts by customer and provider, and what the cheats did."""

    contracts: dict[tuple[str, str], Contract] = field(default_factory=dict)
    lost: list[bytes] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    upload_refused: str = ""


def tell_market(options: MarketOptions, on_event: Callable[[Step | Check], None]) -> Report:
    """Run the story; see :mod:`sovereign_devnet.market`."""
    report = Report(on_event)
    with without_keyring():
        trio.run(_tell, options, report)
    return report


async def _tell(options: MarketOptions, report: Report) -> None:
    # Not before the true time, at which certificates begin.
    clock = ScaledClock((int(time.time()) // WINDOW_S + 1) * WINDOW_S, options.speed)
    async with open_world(options.folder / "nodes", clock) as world:
        story = _Story(world, options, report)
        with report.step("three providers, one observer, one sponsor, six customers") as step:
            await story.begin()
            step.detail = f"{len(story.cast.contracts)} contracts; 1 MB stands for 1 GB"
        for week in range(-(-options.days // 7)):
            last = min(options.days, (week + 1) * 7)
            with report.step(f"days {week * 7 + 1} to {last}") as step:
                for day in range(week * 7, last):
                    await story.live(day)
                step.detail = "; ".join(story.take_news()) or "nothing unusual"
        report.figures["simulated_days"] = options.days
        report.figures["speed"] = f"{clock.reached_speed:,.0f} times real time (wanted {options.speed or 'any'})"
        await Findings(world, story.cast, report, options.folder).write()


class _Story:
    def __init__(self, world: World, options: MarketOptions, report: Report) -> None:
        self._world = world
        self._options = options
        self._report = report
        self._random = random.Random(options.seed)  # noqa: S311 - a story, not a secret
        self._news: list[str] = []
        self.cast = Cast()

    def take_news(self) -> list[str]:
        """Return what happened since the last call."""
        news, self._news = self._news, []
        return news

    async def begin(self) -> None:
        """Make everybody, open all contracts, store 5 MB each."""
        world = self._world
        for name in PROVIDERS:
            await world.create(name, "provider", bonus_permille=1500)
        await world.create("observer", "server")
        await world.create("sponsor", "server")
        for customer, providers in CUSTOMERS.items():
            node = await world.create(customer, "mobile")
            await node.discovery.joined.wait()
            for provider in providers:
                self.cast.contracts[customer, provider] = await deeds.open_contract(
                    node,
                    world.node(provider),
                    capacity_bytes=50 * MB,
                    observer=world.node("observer"),
                    sponsor=world.node("sponsor") if customer == SPONSORED else None,
                )
            source = self._source(customer)
            await trio.to_thread.run_sync(self._fill, source / "large", 5 * MB)
            await world.ask(customer, "protect", path=str(source), name="files", copies=len(providers))
            await world.ask(customer, "backup")
        for name in CUSTOMERS:
            await world.node(name).uptime.collect()

    async def live(self, day: int) -> None:
        """Let one day pass: windows first, then what falls due, then the deeds of the day."""
        world = self._world
        for number in range(DAY_S // WINDOW_S):
            await self._outage(day, number)
            await world.clock.advance(WINDOW_S)
            await self._observe()
        await self._act(day)
        if self._changed("alice", day):
            await world.ask("alice", "backup")
        for name in ("observer", *PROVIDERS, *CUSTOMERS):
            await world.node(name).uptime.collect()
        await self._settle()
        alice = world.node("alice")
        await alice.audits.run_once()
        if alice.repair.waiting:
            self._news.append(f"day {day + 1}: alice repairs {alice.repair.waiting} chunks")
            await alice.repair.run_once()

    async def _observe(self) -> None:
        """Let the observer probe every provider in this window."""
        observer = self._world.node("observer")
        window = window_of(self._world.clock())
        # All keys were learned while everybody was up.
        async with trio.open_nursery() as nursery:
            for device in {contract.provider_device for contract in self.cast.contracts.values()}:
                nursery.start_soon(observer.uptime.probe, device, window)

    async def _settle(self) -> None:
        """Let both sides of every contract come together, providers first."""
        for name in PROVIDERS:
            node = self._world.node(name)
            await trio.to_thread.run_sync(node.money.provide_once)
        for name in (*CUSTOMERS, "sponsor"):
            await self._world.node(name).money.pay_once()

    async def _outage(self, day: int, number: int) -> None:
        """Switch the flaky provider off for 20 windows a week."""
        if day % 7 != 3:
            return
        if number == OUTAGE_FROM:
            await self._world.stop("flaky")
            self._news.append(f"day {day + 1}: flaky is off for 200 minutes")
        if number == OUTAGE_FROM + OUTAGE_WINDOWS:
            await self._world.start("flaky")
            if day >= OVER_METER_DAY:
                self._over_meter()

    async def _act(self, day: int) -> None:
        world, cast = self._world, self.cast
        if day == CHEAT_DAY:
            cast.refusals = await deeds.cheat_with_vouchers(world.node("dave"), cast.contracts["dave", "good"])
            self._news.append(f"day {day + 1}: dave replays and forks a voucher: {', '.join(cast.refusals)}")
        if day == BACKUP_DAY:
            await world.stop("frank")
            deeds.copy_state(world.root / "frank", world.root / "frank.backup")
            await world.start("frank")
        if day == RESTORE_DAY:
            await world.stop("frank")
            deeds.restore_state(world.root / "frank", world.root / "frank.backup")
            await world.start("frank")
            self._news.append(f"day {day + 1}: frank's device is restored from yesterday")
        if day == UNPAID_DAY:
            deeds.stop_paying(world.node("carol"))
            self._news.append(f"day {day + 1}: carol stops paying")
        if day == LOSS_DAY:
            contract = cast.contracts["alice", "leaky"]
            folder = world.root / "leaky"
            cast.lost = await trio.to_thread.run_sync(
                lambda: deeds.lose_chunks(folder, contract.contract_id, 1, self._random)
            )
            self._news.append(f"day {day + 1}: leaky loses {len(cast.lost)} of alice's chunks")
        if day == OVER_METER_DAY:
            self._over_meter()
            self._news.append(f"day {day + 1}: flaky reports more than erin stored")
        if day >= UNPAID_DAY and self._changed("carol", day):
            await self._try_upload("carol")

    def _over_meter(self) -> None:
        contract = self.cast.contracts["erin", "flaky"]
        deeds.meter_too_much(self._world.node("flaky"), contract.contract_id, 5 * MB * 10 * DAY_S)

    async def _try_upload(self, name: str) -> None:
        try:
            await self._world.ask(name, "backup")
        except NodeError as error:
            self.cast.upload_refused = error.message

    def _changed(self, customer: str, day: int) -> bool:
        """Change a file of a customer: alice every day, so that she has many chunks; others once in ten."""
        if customer != "alice" and day % 10:
            return False
        self._fill(self._source(customer) / f"day-{day}", 20_000 if customer == "alice" else MB // 5)
        return True

    def _source(self, customer: str) -> Path:
        return self._options.folder / "files" / customer

    def _fill(self, path: Path, size_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._random.randbytes(size_bytes))

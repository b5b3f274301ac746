"""What the nodes' own books say at the end: each cheat with its evidence, and where every micro-VIBE is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from sovereign_devnet.market.deeds import SPONSOR_BUDGET
from sovereign_devnet.report import Report
from sovereign_node.node import Node
from sovereign_node.services.money.bundle import Judge, export_bundle
from sovereign_node.store.audits import FAILED
from sovereign_node.store.contracts import Contract
from sovereign_protocols.market.prices import FREE, GB, LIST_PRICES, MONTH_S, Usage, charge, format_vibe
from sovereign_protocols.settle.bodies import CreditNote, MeterDispute, PeriodStatement
from sovereign_protocols.settle.ledger import BONUS_GIVEN, BONUS_HELD

if TYPE_CHECKING:
    from sovereign_devnet.market.story import Cast
    from sovereign_devnet.market.world import World

DAY_S = 86_400
#: A period of 30 days, and the notice 30 days after its end.
FINAL_NOTICE_DAY = 61


class Findings:
    """Judges the world.

    Args:
        world: at the end of the story.
        cast: contracts, and what was done.
        report: gets checks and figures.
        folder: evidence is written into ``evidence`` below it.
    """

    def __init__(self, world: World, cast: Cast, report: Report, folder: Path) -> None:
        self._world = world
        self._cast = cast
        self._report = report
        self._folder = folder / "evidence"

    async def write(self) -> None:
        """Make all checks."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for check in (self._figures, self._good, self._leaky, self._flaky, self._carol, self._dave):
            await trio.to_thread.run_sync(check)
        for check in (self._erin, self._frank, self._sponsor, self._conserved):
            await trio.to_thread.run_sync(check)
        verified = await self._world.ask("alice", "verify", read_data_percent=100.0)
        self._report.check("alice's data is whole at both providers", [str(item) for item in verified["errors"]])

    def _statements(self, node: Node, contract: Contract) -> list[PeriodStatement]:
        found = node.state.settlement.all(contract.contract_id, PeriodStatement, node.identity.network_id)
        return list({signed.body.period: signed.body for signed in found}.values())

    def _contract(self, customer: str, provider: str) -> Contract:
        return self._cast.contracts[customer, provider]

    def _bundle(self, name: str, node: Node, contract: Contract) -> list[str]:
        """Write the papers of a contract into a file, and return whom they convict of what.

        `sovereign dispute verify` does the same with the file and the two public keys.
        """
        path = self._folder / f"{name}.json"
        bundle = export_bundle(node.state, contract, node.identity.network_id, node.clock())
        path.write_text(json.dumps(bundle, indent=1) + "\n", "utf-8")
        document = json.loads(path.read_text("utf-8"))
        judge = Judge(document, contract.customer_device, contract.provider_device)
        return [f"{finding['who']}: {finding['what']}" for finding in judge.judge().findings]

    def _check_convicted(self, claim: str, name: str, node: Node, contract: Contract, expected: str) -> None:
        """Check that a bundle convicts somebody of what is expected, and nobody of anything else."""
        findings = self._bundle(name, node, contract)
        is_wrong = not findings or any(expected not in finding for finding in findings)
        self._report.check(f"{claim}: {name}.json", findings or ["no finding"] if is_wrong else [])

    def _check_innocent(self, name: str, node: Node, contract: Contract) -> None:
        self._report.check(f"the papers of {name} hold: {name}.json", self._bundle(name, node, contract))

    def _uptime(self, contract: Contract, node: Node) -> tuple[int, int]:
        count = node.uptime.book.count(contract.contract_id, contract.started_at, node.clock())
        return count.good, count.observed

    def _figures(self) -> None:
        lines = charge(LIST_PRICES, Usage(5 * GB * MONTH_S, GB), with_bonus=True)
        self._report.figures["5 GB and 1 GB moved"] = (
            f"cost {format_vibe(lines.price)}, earn {format_vibe(lines.earnings)} with the bonus"
        )
        wrong = (lines.price, lines.earnings) != (10_500_000, 15_750_000)
        self._report.check("the prototype's figures: 10.5 VIBE, 15.75 with the bonus", wrong)
        own = charge(FREE, Usage(5 * GB * MONTH_S, GB), with_bonus=True)
        self._report.check("a customer with only own devices pays 0 VIBE", own.earnings != 0)

    def _good(self) -> None:
        contract, alice = self._contract("alice", "good"), self._world.node("alice")
        good, observed = self._uptime(contract, alice)
        self._report.check(f"good answered in {good} of {observed} windows", not observed or good != observed)
        statements = self._statements(alice, contract)
        if self._has_period():
            self._report.check(
                "good earned its bonus", not statements or any(item.bonus == 0 for item in statements)
            )
            first = statements[0] if statements else None
            if first is not None:
                self._report.figures["alice's first statement with good"] = (
                    f"storage {format_vibe(first.storage)}, transfer {format_vibe(first.transfer)},"
                    f" bonus {format_vibe(first.bonus)}"
                )

    def _leaky(self) -> None:
        contract, alice = self._contract("alice", "leaky"), self._world.node("alice")
        if not self._cast.lost:
            return
        failed = alice.state.audits.records(contract.contract_id, outcome=FAILED)
        found = {item.chunk_id for item in failed}
        missed = [chunk.hex() for chunk in self._cast.lost if chunk not in found]
        self._report.check(f"audits found all {len(self._cast.lost)} chunks that leaky lost", missed)
        self._report.check("leaky signed every failure", not failed or any(not item.answer for item in failed))
        leaky = self._world.node("leaky")
        notes = leaky.state.settlement.all(contract.contract_id, CreditNote, leaky.identity.network_id)
        credited = sum({note.content_hash: note.body.amount for note in notes}.values())
        self._report.check("leaky gave back what it had not stored", credited == 0)
        self._report.figures["credited by leaky"] = format_vibe(credited)
        first = min(failed, key=lambda item: item.audited_at, default=None)
        if first is not None:
            days = (first.audited_at - alice.started_at) / DAY_S
            self._report.figures["first failed audit"] = f"on day {days:.0f}"
        self._check_convicted(
            "leaky's own signature convicts it", "leaky", alice, contract, "provider: signed that it lost"
        )

    def _flaky(self) -> None:
        contract, bob = self._contract("bob", "flaky"), self._world.node("bob")
        good, observed = self._uptime(contract, bob)
        self._report.figures["uptime of flaky"] = f"{good} of {observed} windows"
        if bob.clock() - contract.started_at > 5 * DAY_S:
            self._report.check("flaky is seen to be down", observed == 0 or good == observed)
        if self._has_period():
            statements = self._statements(bob, contract)
            self._report.check("flaky got no bonus", not statements or any(item.bonus for item in statements))
        self._check_innocent("bob", bob, contract)

    def _carol(self) -> None:
        contract, good = self._contract("carol", "good"), self._world.node("good")
        row = good.state.contracts.get(contract.contract_id)
        state = row.state if row is not None else "unknown"
        self._report.figures["carol's contract"] = f"{state}; upload: {self._cast.upload_refused or 'not tried'}"
        if self._has_period():
            self._report.check(f"carol, who does not pay, is {state}", state in ("active", "renewing"))
        if self._days() >= FINAL_NOTICE_DAY:
            self._check_convicted("carol's debt is proven", "carol", good, contract, "customer: left")

    def _dave(self) -> None:
        contract, good = self._contract("dave", "good"), self._world.node("good")
        if not self._cast.refusals:
            return
        pairs = good.state.evidence.all("voucher_fork", contract.contract_id.hex())
        self._report.check("two vouchers of dave with one number are kept as evidence", not pairs)
        self._check_convicted("dave is convicted", "dave", good, contract, "customer: signed two different papers")

    def _erin(self) -> None:
        contract, flaky = self._contract("erin", "flaky"), self._world.node("flaky")
        erin = self._world.node("erin")
        disputes = erin.state.settlement.all(contract.contract_id, MeterDispute, erin.identity.network_id)
        if erin.clock() - contract.started_at < 16 * DAY_S:
            return
        self._report.check("erin disputes what flaky metered too much", not disputes)
        kept = flaky.state.settlement.all(contract.contract_id, MeterDispute, flaky.identity.network_id)
        self._report.check("flaky keeps the disputes", bool(disputes) and not kept)
        self._check_convicted("flaky is convicted", "erin", erin, contract, "provider: ")

    def _frank(self) -> None:
        contract, good = self._contract("frank", "good"), self._world.node("good")
        pairs = good.state.evidence.all("voucher_fork", contract.contract_id.hex())
        self._report.check("frank's restored device signed nothing twice", bool(pairs))
        frank = self._world.node("frank")
        held = good.money.provider_book.vouchered(contract.contract_id)
        given = frank.money.books.promised(contract.contract_id)
        self._report.figures["frank's vouchers"] = f"given {format_vibe(given)}, held {format_vibe(held)}"
        self._report.check("frank and good agree about his vouchers", held != given)
        for name, node in (("frank", frank), ("good", good)):
            self._check_innocent(f"frank-by-{name}", node, contract)

    def _sponsor(self) -> None:
        contract = self._contract("dave", "good")
        if not self._has_period():
            return
        held = self._balance("good", BONUS_HELD, contract)
        given = self._balance("sponsor", BONUS_GIVEN, contract)
        charged = sum(body.bonus for body in self._statements(self._world.node("dave"), contract))
        is_wrong = not 0 < held == -given <= SPONSOR_BUDGET or charged != 0
        self._report.check("the sponsor pays the bonus of dave's contract, and dave does not", is_wrong)
        self._report.figures["sponsor"] = f"paid {format_vibe(held)} of {format_vibe(SPONSOR_BUDGET)} granted"

    def _conserved(self) -> None:
        """Every entry adds up to zero, every chain is whole, and what one side gave the other holds."""
        wrong = []
        names = sorted({"sponsor", *(name for pair in self._cast.contracts for name in pair)})
        for name in names:
            ledger = self._world.node(name).state.ledger
            if ledger.verify() is not None:
                wrong.append(f"{name}: the chain of the ledger is broken")
            if sum(ledger.balances().values()):
                wrong.append(f"{name}: the ledger does not add up to zero")
        earned = paid = refused = 0
        for (customer, provider), contract in self._cast.contracts.items():
            open_charges = self._refused_charges(customer, provider, contract)
            wrong += self._compare(customer, provider, contract, open_charges)
            earned -= self._balance(provider, "income", contract)
            paid += self._spent(customer, "expense", contract)
            refused += open_charges
        self._report.check("money is conserved to the micro-VIBE over all ledgers", wrong)
        self._report.figures["ledgers"] = (
            f"{len(names)}, {len(self._cast.contracts)} contracts: providers booked {format_vibe(earned)},"
            f" who pays {format_vibe(paid)}; {format_vibe(refused)} are in statements that customers did not sign"
        )

    def _refused_charges(self, customer: str, provider: str, contract: Contract) -> int:
        """Sum what a provider charges in statements that its customer did not sign: one of them cheats.

        These are the only entries that one side may have alone.
        """
        theirs, own = self._world.node(provider), self._world.node(customer)
        signed = {body.period for body in self._statements(own, contract)}
        return sum(
            body.storage + body.transfer + body.bonus
            for body in self._statements(theirs, contract)
            if body.period not in signed
        )

    def _compare(self, customer: str, provider: str, contract: Contract, refused: int) -> list[str]:
        mirrored = (
            ("receivable", "payable", refused),
            ("income", "expense", -refused),
            ("vouchers-held", "vouchers-given", 0),
            (BONUS_HELD, BONUS_GIVEN, 0),
        )
        wrong = []
        for held, owed, alone in mirrored:
            one, other = self._balance(provider, held, contract), self._spent(customer, owed, contract)
            if one + other != alone:
                wrong.append(f"{customer} and {provider}: {held} {one}, {owed} {other}, of it unsigned {alone}")
        return wrong

    def _spent(self, customer: str, account: str, contract: Contract) -> int:
        """Sum an account of both who pay under a contract."""
        return sum(self._balance(name, account, contract) for name in (customer, "sponsor"))

    def _balance(self, name: str, account: str, contract: Contract) -> int:
        return self._world.node(name).state.ledger.balance(f"{account}:{contract.contract_id.hex()}")

    def _days(self) -> float:
        """How long the contracts have been running."""
        contract = self._contract("carol", "good")
        return (self._world.clock() - contract.started_at) / DAY_S

    def _has_period(self) -> bool:
        """Tell whether a period was closed."""
        contract = self._contract("alice", "good")
        return self._world.clock() - contract.started_at > contract.period_s + DAY_S

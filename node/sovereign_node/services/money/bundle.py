"""Evidence bundles: every signed paper of one contract in a file, and a judge that needs nothing but that file.

The judge trusts no database: it checks each signature, each chain and each sum again, and says who signed what
contradicts what. Works without a running node.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sovereign_crypto.statement import StatementType
from sovereign_node.services.money.bundle_audits import export_audits, judge_audits
from sovereign_node.services.money.bundle_probes import ProbeJudge, export_probes
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.market.acts import ActKind, SignedAct, parse_act
from sovereign_protocols.market.terms import Agreement, SignedTerms, agree, parse_terms
from sovereign_protocols.settle.bodies import (
    CreditNote,
    MeterDispute,
    MeterReport,
    PeriodStatement,
    Receipt,
    TransferReceipt,
    Voucher,
)
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import Body, Signed, parse_signed
from sovereign_protocols.settle.sponsor import BonusGrant, is_note_of

FORMAT: Final = "sovereign-dispute-1"
MAX_PAPERS: Final = 1_000_000
_KINDS: Final[tuple[type[Body], ...]] = (
    Receipt,
    TransferReceipt,
    MeterReport,
    MeterDispute,
    PeriodStatement,
    CreditNote,
    BonusGrant,
    Voucher,
)


def export_bundle(state: State, contract: Contract, network_id: bytes, at: int) -> dict[str, Any]:
    """Collect every signed paper of a contract. Blocks.

    Returns:
        A JSON document; all papers are hexadecimal, exactly as they were signed.
    """
    statements = state.contracts.statements(contract.contract_id)

    def of_type(kind: StatementType) -> list[str]:
        return [item.raw.hex() for item in statements if item.statement_type == int(kind)]

    return {
        "format": FORMAT,
        "network_id": network_id.hex(),
        "contract": contract.contract_id.hex(),
        "customer_device": contract.customer_device.hex(),
        "provider_device": contract.provider_device.hex(),
        "exported_at": at,
        "terms": of_type(StatementType.CONTRACT),
        "acts": of_type(StatementType.ACCEPTANCE),
        "messages": [raw.hex() for raw in state.settlement.raws(contract.contract_id)],
        "vouchers": [raw.hex() for raw in state.vouchers.raws(contract.contract_id)],
        "contradictions": [
            {"kind": pair.kind, "first": pair.first_raw.hex(), "second": pair.second_raw.hex()}
            for pair in state.evidence.all(subject=contract.contract_id.hex())
        ],
        "audits": export_audits(state, contract.contract_id),
        "probes": export_probes(state, contract, at),
    }


@dataclass
class Verdict:
    """What the papers prove.

    Args:
        findings: who did what against its own or the other side's signature; empty if all papers agree.
        papers: how many were checked.
        agreements: revisions with both signatures.
    """

    findings: list[dict[str, str]] = field(default_factory=list)
    papers: int = 0
    agreements: list[Agreement] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)

    def accuse(self, who: str, what: str, paper: bytes = b"") -> None:
        """Add a finding."""
        self.findings.append({"who": who, "what": what, "paper": paper.hex()})

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a document."""
        return {"ok": not self.findings, "papers": self.papers, "findings": self.findings, **self.totals}


class Judge:
    """Checks one bundle.

    Args:
        bundle: the decoded JSON document.
        customer: public key that the customer's device must have, 32 bytes; that of the bundle without it.
        provider: the same for the provider's device.
    """

    def __init__(
        self, bundle: dict[str, Any], customer: bytes | None = None, provider: bytes | None = None
    ) -> None:
        if bundle.get("format") != FORMAT:
            raise ValueError(f"not a bundle of the format {FORMAT}")
        self._network_id = bytes.fromhex(bundle["network_id"])
        self._contract_id = bytes.fromhex(bundle["contract"])
        self._customer = customer or bytes.fromhex(bundle["customer_device"])
        self._provider = provider or bytes.fromhex(bundle["provider_device"])
        self._bundle = bundle
        self._verdict = Verdict()
        self._signed: dict[type[Body], list[Signed[Any]]] = defaultdict(list)
        self._acts: list[SignedAct] = []

    def judge(self) -> Verdict:
        """Check all papers.

        Raises:
            ValueError: the bundle cannot be read at all.
        """
        self._read_terms()
        self._read_messages()
        if self._verdict.agreements:
            self._check_receipts()
            self._check_vouchers()
            self._check_statements()
            self._check_reports()
            self._check_audits()
            self._sum_up()
            self._check_probes()
            self._check_payment()
        return self._verdict

    # --- reading ---------------------------------------------------------------------------------------------

    def _papers(self, name: str) -> list[bytes]:
        found = self._bundle.get(name, [])
        if not isinstance(found, list) or len(found) > MAX_PAPERS:
            raise ValueError(f"the bundle's {name} cannot be read")
        return [bytes.fromhex(raw) for raw in found]

    def _read_terms(self) -> None:
        copies: dict[bytes, list[SignedTerms]] = defaultdict(list)
        for raw in self._papers("terms"):
            self._verdict.papers += 1
            try:
                signed = parse_terms(raw, self._network_id)
            except ProtocolError as error:
                self._verdict.accuse("bundle", f"terms cannot be verified: {error}", _hash(raw))
                continue
            if signed.contract_id == self._contract_id:
                copies[signed.terms_hash].append(signed)
        for pair in copies.values():
            try:
                self._verdict.agreements.append(agree(pair[0], pair[-1]))
            except ProtocolError:
                self._verdict.accuse("bundle", "a revision lacks a signature", pair[0].statement_hash)
        self._verdict.agreements.sort(key=lambda item: item.terms.revision)
        first = next(iter(self._verdict.agreements), None)
        if first is None:
            self._verdict.accuse("bundle", "there are no terms that both parties signed")
        elif first.terms.provider_device != self._provider or self._customer not in self._customers():
            self._verdict.accuse("bundle", "the terms name other devices than those asked for")

    def _customers(self) -> set[bytes]:
        return {item.terms.customer_device for item in self._verdict.agreements}

    def _read_messages(self) -> None:
        for raw in [*self._papers("messages"), *self._papers("vouchers")]:
            self._verdict.papers += 1
            signed = self._parse(raw)
            if signed is None or getattr(signed.body, "contract", b"") != self._contract_id:
                self._verdict.accuse("bundle", "a paper cannot be verified or is of another contract", _hash(raw))
            else:
                self._signed[type(signed.body)].append(signed)
        for raw in self._papers("acts"):
            self._verdict.papers += 1
            try:
                self._acts.append(parse_act(raw, self._network_id))
            except ProtocolError:
                self._verdict.accuse("bundle", "a notice cannot be verified", _hash(raw))
        for pair in self._bundle.get("contradictions", []):
            for raw in (bytes.fromhex(pair["first"]), bytes.fromhex(pair["second"])):
                signed = self._parse(raw)
                if signed is not None:
                    self._signed[type(signed.body)].append(signed)

    def _parse(self, raw: bytes) -> Signed[Any] | None:
        for kind in _KINDS:
            try:
                return parse_signed(raw, kind, self._network_id)
            except ProtocolError:
                continue
        return None

    # --- checking --------------------------------------------------------------------------------------------

    def _check_receipts(self) -> None:
        receipts = self._of_provider(Receipt)
        self._check_equivocation("provider", [(signed.body.seq, signed) for signed in receipts])
        previous = None
        for signed in _distinct(receipts, lambda item: item.body.seq):
            if previous is not None and signed.body.previous != previous.content_hash:
                self._verdict.accuse("provider", "the receipts are not one chain", signed.statement_hash)
            previous = signed

    def _of_provider(self, kind: type[Body]) -> list[Signed[Any]]:
        found = []
        for signed in self._signed[kind]:
            if signed.signer == self._provider:
                found.append(signed)
            else:
                self._verdict.accuse(
                    "bundle", f"a {kind.KIND} is not signed by the provider", signed.statement_hash
                )
        return found

    def _check_equivocation(self, who: str, numbered: Sequence[tuple[Any, Signed[Any]]]) -> None:
        seen: dict[Any, Signed[Any]] = {}
        for number, signed in numbered:
            known = seen.setdefault(number, signed)
            if known.content_hash != signed.content_hash:
                self._verdict.accuse(
                    who, f"signed two different papers with the number {number}", signed.statement_hash
                )

    def _check_vouchers(self) -> None:
        lanes: dict[tuple[bytes, int], list[Signed[Voucher]]] = defaultdict(list)
        for signed in self._signed[Voucher]:
            if signed.signer != signed.body.device or signed.body.payee != self._provider:
                self._verdict.accuse("bundle", "a voucher of another party", signed.statement_hash)
                continue
            lanes[signed.body.device, signed.body.lane].append(signed)
        for vouchers in lanes.values():
            self._check_equivocation("customer", [(signed.body.seq, signed) for signed in vouchers])
            before = 0
            for signed in _distinct(vouchers, lambda item: item.body.seq):
                if signed.body.cumulative < before:
                    self._verdict.accuse("customer", "a voucher promises less than before", signed.statement_hash)
                before = signed.body.cumulative

    def _check_statements(self) -> None:
        by_period: dict[int, list[Signed[PeriodStatement]]] = defaultdict(list)
        for signed in self._signed[PeriodStatement]:
            by_period[signed.body.period].append(signed)
        for period, copies in sorted(by_period.items()):
            for who, keys in (("provider", {self._provider}), ("customer", self._customers())):
                own = [signed for signed in copies if signed.signer in keys]
                self._check_equivocation(who, [(f"period {period}", signed) for signed in own])
            body = copies[0].body
            counted = self._byte_seconds(body.until_at) - self._byte_seconds(body.from_at)
            if self._has_all_receipts() and body.byte_seconds > counted:
                self._verdict.accuse(
                    "provider", f"period {period} bills more than its receipts name", copies[0].statement_hash
                )

    def _check_reports(self) -> None:
        for signed in self._of_provider(MeterReport):
            receipts = self._signed[Receipt]
            known = next((r for r in receipts if r.content_hash == signed.body.inputs), None)
            through = known.body.seq if known else 0
            if known is None and any(signed.body.inputs):
                continue
            counted = self._byte_seconds(signed.body.until_at, through)
            if signed.body.byte_seconds > counted:
                self._verdict.accuse(
                    "provider",
                    f"report {signed.body.seq} counts {signed.body.byte_seconds} byte-seconds,"
                    f" its receipts give {counted}",
                    signed.statement_hash,
                )

    def _check_audits(self) -> None:
        self._verdict.papers += judge_audits(
            self._bundle.get("audits", []),
            self._contract_id,
            self._provider,
            self._network_id,
            self._verdict.accuse,
        )

    def _check_probes(self) -> None:
        revisions = [item.terms for item in self._verdict.agreements]
        judge = ProbeJudge(self._provider, revisions, self._network_id, self._verdict.accuse)
        judge.read(self._papers("probes"))
        self._verdict.papers += judge.papers
        self._verdict.totals |= judge.figures(signed.body for signed in self._signed[PeriodStatement])

    def _check_payment(self) -> None:
        """Name a debt that is left after the provider's final notice; vouchers that are not shown cannot count."""
        unpaid = self._verdict.totals["unpaid_micro_vibe"]
        final = [act for act in self._acts if act.act.kind is ActKind.FINAL and act.signer == self._provider]
        if unpaid and final:
            newest = max(final, key=lambda act: act.act.issued_at)
            self._verdict.accuse(
                "customer",
                f"left {unpaid} micro-VIBE unpaid, by these papers, after a final notice",
                newest.statement_hash,
            )

    def _has_all_receipts(self) -> bool:
        numbers = sorted({signed.body.seq for signed in self._signed[Receipt]})
        return numbers == list(range(1, len(numbers) + 1))

    def _byte_seconds(self, until_at: int, through: int | None = None) -> int:
        """Count from the receipts alone."""
        meter = Meter(self._verdict.agreements[0].terms.start_at)
        for signed in _distinct(self._signed[Receipt], lambda item: item.body.seq):
            body = signed.body
            if body.at > until_at or (through is not None and body.seq > through):
                break
            counted = meter.advance(body.at)
            meter = Meter(counted.at, body.stored_bytes, 0, counted.byte_seconds)
        return meter.advance(until_at).byte_seconds

    def _sum_up(self) -> None:
        lanes: dict[tuple[bytes, int], int] = {}
        for signed in self._signed[Voucher]:
            key = (signed.body.device, signed.body.lane)
            lanes[key] = max(lanes.get(key, 0), signed.body.cumulative)
        statements = {signed.body.period: signed.body for signed in self._signed[PeriodStatement]}
        self._verdict.totals["sponsored_micro_vibe"] = self._sponsored()
        charged = sum(body.storage + body.transfer + body.bonus for body in statements.values())
        promised = sum(lanes.values())
        self._verdict.totals |= {
            "charged_micro_vibe": charged,
            "promised_micro_vibe": promised,
            "unpaid_micro_vibe": max(0, charged - promised - self._credits()),
            "statements": len(statements),
            "receipts": len({signed.body.seq for signed in self._signed[Receipt]}),
            "disputes": len(self._signed[MeterDispute]),
            "notices": len(self._acts),
        }

    def _sponsored(self) -> int:
        """Sum what sponsors paid; a grant that says less than the notes under it convicts its signer."""
        notes = {signed.content_hash: signed for signed in self._signed[CreditNote]}.values()
        total = 0
        for grant in {signed.content_hash: signed for signed in self._signed[BonusGrant]}.values():
            if grant.signer != grant.body.device:
                self._verdict.accuse("bundle", "a grant of another device", grant.statement_hash)
                continue
            paid = sum(note.body.amount for note in notes if is_note_of(grant, note.body))
            if paid > grant.body.budget:
                self._verdict.accuse("sponsor", "promised more than its grant allows", grant.statement_hash)
            total += paid
        return total

    def _credits(self) -> int:
        provider = self._verdict.agreements[0].terms.provider_identity
        signers: dict[bytes, set[bytes]] = defaultdict(set)
        amounts: dict[bytes, int] = {}
        for signed in self._signed[CreditNote]:
            signers[signed.content_hash].add(signed.signer)
            if signed.body.payer == provider:
                amounts[signed.content_hash] = signed.body.amount
        return sum(amount for key, amount in amounts.items() if len(signers[key]) > 1)


def _distinct(found: Sequence[Signed[Any]], number: Any) -> list[Signed[Any]]:
    """Give one paper for each number, in order."""
    return [signed for _, signed in sorted({number(signed): signed for signed in found}.items())]


def _hash(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()

"""Failed audits in an evidence bundle: the challenge, the provider's signed answer, the auditor's verdict.

An answer that says "missing" is the provider's own word. An answer with a wrong proof is a claim of the auditor,
which only the chunk itself could settle: it is kept in the bundle and convicts nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sovereign_node.store import State
from sovereign_node.store.audits import FAILED
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, Result
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.settle.signed import parse_signed

#: Told who did what, and by which paper.
Accuse = Callable[[str, str, bytes], None]


def export_audits(state: State, contract_id: bytes) -> list[dict[str, str]]:
    """Collect the papers of all audits that failed under a contract. Blocks."""
    return [
        {"challenge": item.challenge.hex(), "answer": item.answer.hex(), "verdict": item.verdict.hex()}
        for item in state.audits.records(contract_id, outcome=FAILED)
    ]


def judge_audits(
    audits: Sequence[Mapping[str, Any]], contract_id: bytes, provider: bytes, network_id: bytes, accuse: Accuse
) -> int:
    """Check the papers of failed audits.

    Args:
        audits: as `export_audits` gives them.
        contract_id: 32 bytes.
        provider: key of the device that must have answered, 32 bytes.
        network_id: 32 bytes.
        accuse: told what the papers prove.

    Returns:
        How many papers were checked.

    Raises:
        ValueError, KeyError: an entry cannot be read at all.
    """
    papers = 0
    lost: set[bytes] = set()
    for audit in audits:
        raws = [bytes.fromhex(audit[name]) for name in ("challenge", "answer")]
        if not all(raws):
            continue
        papers += len(raws)
        try:
            challenge = parse_signed(raws[0], AuditChallenge, network_id)
            answer = parse_signed(raws[1], AuditAnswer, network_id)
        except ProtocolError:
            accuse("bundle", "an audit cannot be verified", b"")
            continue
        belongs = (challenge.body.contract, challenge.body.provider, answer.signer) == (
            contract_id,
            provider,
            provider,
        )
        if not belongs or answer.body.challenge != challenge.content_hash:
            accuse("bundle", "an audit of another contract or party", answer.statement_hash)
        elif answer.body.result == Result.MISSING and challenge.body.chunk not in lost:
            lost.add(challenge.body.chunk)
            accuse("provider", f"signed that it lost the chunk {challenge.body.chunk.hex()}", answer.statement_hash)
    return papers

"""Making and judging answers, and what a number of passed samples says. Pure.

Source: protocols/specs/audit.md, "Judging" and "Statistics".
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import blake3

from sovereign_crypto.errors import AuthenticationError, ParameterError
from sovereign_crypto.merkle import LEAF_BYTES, inclusion_proof, leaf_count, leaf_hash, verify_inclusion
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, Method, Outcome, Result
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.settle.signed import NO_HASH, Signed

#: Samples after which a loss of 1 % would have been seen with 99 % probability.
SAMPLES_FOR_99_PERCENT: Final = 459


@dataclass(frozen=True)
class Proof:
    """The part of an answer that is not signed because the signed part names its hash.

    Args:
        leaf: bytes of the leaf, empty for a keyed hash.
        path: sibling hashes from the leaf up, 32 bytes each.
    """

    leaf: bytes = b""
    path: tuple[bytes, ...] = ()


def keyed_hash(sealed: bytes, nonce: bytes) -> bytes:
    """Return the keyed BLAKE3-256 hash of a chunk.

    Args:
        sealed: the whole chunk.
        nonce: of the challenge, 32 bytes.
    """
    return blake3.blake3(sealed, key=nonce).digest()


def is_intact(chunk_id: bytes, sealed: bytes | None) -> bool:
    """Tell whether bytes are those that a chunk id names."""
    return sealed is not None and hashlib.sha256(sealed).digest() == chunk_id


def make_answer(challenge: Signed[AuditChallenge], sealed: bytes | None, at: int) -> tuple[AuditAnswer, Proof]:
    """Answer a challenge truthfully.

    Args:
        challenge: verified.
        sealed: what the store holds, None if nothing.
        at: Unix seconds UTC.

    Raises:
        RefusedError: reason size, if the chunk has no such leaf.
    """
    body = challenge.body
    if sealed is None or not is_intact(body.chunk, sealed):
        return AuditAnswer(challenge.content_hash, Result.MISSING, 0, NO_HASH, at), Proof()
    if body.method == Method.HASH:
        digest = keyed_hash(sealed, body.nonce)
        return AuditAnswer(challenge.content_hash, Result.HELD, len(sealed), digest, at), Proof()
    if body.leaf >= leaf_count(len(sealed)):
        raise RefusedError(Reason.SIZE, {"max_leaf": leaf_count(len(sealed)) - 1})
    leaf = bytes(sealed[body.leaf * LEAF_BYTES : (body.leaf + 1) * LEAF_BYTES])
    answer = AuditAnswer(challenge.content_hash, Result.HELD, len(sealed), leaf_hash(leaf), at)
    return answer, Proof(leaf, tuple(inclusion_proof(sealed, body.leaf)))


def judge_hash(challenge: AuditChallenge, answer: AuditAnswer, sealed: bytes) -> Outcome:
    """Judge an answer with the bytes of the chunk at hand, whatever the challenge asked for.

    Args:
        challenge: what was asked.
        answer: to it.
        sealed: the whole chunk; the caller checked it against its id.
    """
    if answer.result == Result.MISSING or answer.size != len(sealed):
        return Outcome.FAILED
    if challenge.method == Method.HASH:
        expected = keyed_hash(sealed, challenge.nonce)
    else:
        expected = leaf_hash(sealed[challenge.leaf * LEAF_BYTES : (challenge.leaf + 1) * LEAF_BYTES])
    return Outcome.PASSED if answer.proof == expected else Outcome.FAILED


def judge_leaf(
    challenge: AuditChallenge, answer: AuditAnswer, proof: Proof, *, root: bytes, size_bytes: int
) -> Outcome:
    """Judge an answer with the root and size of the chunk alone."""
    if answer.result == Result.MISSING or answer.size != size_bytes or answer.proof != leaf_hash(proof.leaf):
        return Outcome.FAILED
    try:
        verify_inclusion(root, size_bytes, challenge.leaf, proof.leaf, list(proof.path))
    except (AuthenticationError, ParameterError):
        return Outcome.FAILED
    return Outcome.PASSED


def samples_needed(confidence_percent: int, lost_permille: int) -> int:
    """Return how many random samples must pass to be so sure that less than this is lost.

    Args:
        confidence_percent: 1 to 99.
        lost_permille: of 1000, 1 to 999.
    """
    return math.ceil(math.log(1 - confidence_percent / 100) / math.log(1 - lost_permille / 1000))


def loss_bound_percent(samples: int, confidence_percent: int = 99) -> float:
    """Return the share, in percent, of which less is lost with this confidence; 100 without samples."""
    if samples <= 0:
        return 100.0
    return float(100 * (1 - (1 - confidence_percent / 100) ** (1 / samples)))


def confidence_words(samples: int) -> str:
    """Say what a number of random samples that all passed means."""
    if samples <= 0:
        return "nothing is proven yet"
    # Rounded up: the sentence must stay true.
    tenths = math.ceil(loss_bound_percent(samples) * 10 - 1e-9)
    bound = "0.1" if tenths <= 1 else f"{tenths / 10:.1f}".removesuffix(".0")
    return f"99 % sure that less than {bound} % is missing"

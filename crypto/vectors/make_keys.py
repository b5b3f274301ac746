"""Vectors of project keys, names, sizes, leaf roots, peer ids and key wraps."""

import hashlib

from blake3 import blake3
from make_common import Cases, cbor, domain, flip, hkdf, public_key, rand, u32, wrap, x25519_public

cases = Cases("keys")

PROJECT, DEDUP = rand("project id"), rand("dedup secret")
EPOCHS = [rand("epoch 0"), rand("epoch 1")]
PROVIDER = public_key(rand("provider"))
ENCODED = cbor({"v": 1, "project_id": PROJECT, "epoch_keys": EPOCHS, "dedup_secret": DEDUP})


def epoch_keys(name):
    return [hkdf(key, domain(f"project/{name}") + PROJECT + u32(epoch)) for epoch, key in enumerate(EPOCHS)]


cases.add(
    "project-ok",
    "project",
    "ok",
    {"encoded": ENCODED, "provider": PROVIDER},
    {
        **{f"{name}_keys": epoch_keys(name) for name in ("chunk", "index", "head", "log")},
        "dedup_key": hkdf(DEDUP, domain("project/dedup") + PROJECT),
        "discovery_key": hkdf(DEDUP, domain("project/discovery") + PROJECT),
        "locator": hkdf(DEDUP, domain("project/locator") + PROJECT),
        "provider_locator": hkdf(DEDUP, domain("project/locator") + PROJECT + PROVIDER),
    },
)
for name, body in {
    "unknown-field": {"v": 1, "project_id": PROJECT, "epoch_keys": EPOCHS, "dedup_secret": DEDUP, "x": 0},
    "version-2": {"v": 2, "project_id": PROJECT, "epoch_keys": EPOCHS, "dedup_secret": DEDUP},
    "no-epochs": {"v": 1, "project_id": PROJECT, "epoch_keys": [], "dedup_secret": DEDUP},
    "short-key": {"v": 1, "project_id": PROJECT, "epoch_keys": [bytes(31)], "dedup_secret": DEDUP},
}.items():
    cases.add(f"project-{name}", "project", "malformed", {"encoded": cbor(body), "provider": PROVIDER})

for name, data in {"empty": b"", "short": b"a blob", "long": rand("blob", 5000)}.items():
    outputs = {"blob_id": blake3(data, key=DEDUP).digest(), "chunk_id": hashlib.sha256(data).digest()}
    cases.add(f"names-ok-{name}", "names", "ok", {"key": DEDUP, "data": data}, outputs)


def padme(size):
    """Keep the exponent and as many bits after the leading one as the exponent has."""
    if size < 2:
        return size
    exponent = len(f"{size:b}") - 1
    kept = len(f"{exponent:b}")
    step = 2 ** max(exponent - kept, 0)
    return -(-size // step) * step


for size in (0, 1, 2, 9, 17, 100, 4097, 300_000, 4_194_304):
    cases.add(f"padme-ok-{size}", "padme", "ok", {"size": size}, {"padded": padme(size)})


def leaves_of(data):
    return [data[i : i + 4096] for i in range(0, len(data), 4096)]


def tree(leaves):
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def path(index, leaves):
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*path(index, leaves[:split]), tree(leaves[split:])]
    return [*path(index - split, leaves[split:]), tree(leaves[:split])]


def leaf_data(size):
    """Every leaf is the SHA-256 of its number, repeated; the vector file names only the size."""
    whole = b"".join(hashlib.sha256(u32(i)).digest() * 128 for i in range(size // 4096 + 1))
    return whole[:size]


for size in (1, 4096, 4097, 5 * 4096, 7 * 4096 - 1, 20_000):
    data = leaf_data(size)
    leaves = leaves_of(data)
    proofs = [path(index, leaves) for index in range(len(leaves))]
    outputs = {"root": tree(leaves), "paths": proofs}
    cases.add(f"leaves-ok-{size}", "leaves", "ok", {"size": size}, outputs)
root, proof = tree(leaves_of(leaf_data(20_000))), path(1, leaves_of(leaf_data(20_000)))
for name, bad in {"short": proof[:-1], "long": [*proof, bytes(32)], "swapped": proof[::-1]}.items():
    inputs = {"size": 20_000, "root": root, "index": 1, "path": bad}
    cases.add(f"leaves-path-{name}", "leaf-proof", "authentication", inputs)
inputs = {"size": 20_000, "root": root, "index": 5, "path": proof}
cases.add("leaves-no-such-leaf", "leaf-proof", "parameter", inputs)

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


PREFIX = bytes.fromhex("002408011220")
PEER = base58(PREFIX + PROVIDER)
cases.add("peer-id-ok", "peer-id", "ok", {"text": PEER}, {"public": PROVIDER})
for name, text in {
    "wrong-alphabet": PEER[:-1] + "0",
    "truncated": PEER[:-1],
    "not-ed25519": base58(bytes.fromhex("002408021220") + PROVIDER),
    "small-order-key": base58(PREFIX + bytes([1]) + bytes(31)),
    "empty": "",
}.items():
    cases.add(f"peer-id-{name}", "peer-id", "format", {"text": text})

PRIVATE, SECRET, EPHEMERAL = rand("recipient"), rand("wrapped secret"), rand("ephemeral")
CONTEXT, TAG_CONTEXT = b"project, epoch, sender, recipient", b"project, epoch"
WRAPPED = wrap(1, x25519_public(PRIVATE), SECRET, CONTEXT, TAG_CONTEXT, EPHEMERAL)


def wrap_case(
    name, expect, *, wrapped=WRAPPED, private=PRIVATE, purpose=1, context=CONTEXT, tag_context=TAG_CONTEXT
):
    inputs = {
        "purpose": purpose,
        "private": private,
        "context": context,
        "tag_context": tag_context,
        "wrapped": wrapped,
    }
    cases.add(f"wrap-{name}", "wrap", expect, inputs, {"secret": SECRET} if expect == "ok" else None)


wrap_case("ok", "ok")
for purpose in range(2, 7):
    wrapped = wrap(purpose, x25519_public(PRIVATE), SECRET, CONTEXT, TAG_CONTEXT, EPHEMERAL)
    wrap_case(f"ok-purpose-{purpose}", "ok", wrapped=wrapped, purpose=purpose)
wrap_case("other-recipient", "authentication", private=rand("other recipient"))
wrap_case("other-context", "authentication", context=CONTEXT[:-1])
wrap_case("other-tag-context", "authentication", tag_context=b"")
wrap_case("flipped-tag", "authentication", wrapped=flip(WRAPPED, 8))
wrap_case("flipped-encapsulated-key", "authentication", wrapped=flip(WRAPPED, 26))
wrap_case("flipped-top-bit-of-encapsulated-key", "authentication", wrapped=flip(WRAPPED, 57, 7))
wrap_case("flipped-ciphertext", "authentication", wrapped=flip(WRAPPED, 105))
wrap_case("zero-encapsulated-key", "authentication", wrapped=WRAPPED[:26] + bytes(32) + WRAPPED[58:])
wrap_case("other-purpose", "format", purpose=2)
wrap_case("suite-2", "format", wrapped=WRAPPED[:5] + b"\x02" + WRAPPED[6:])
wrap_case("wrong-length-field", "format", wrapped=flip(WRAPPED, 25))
wrap_case("truncated", "format", wrapped=WRAPPED[:-1])
cases.write()

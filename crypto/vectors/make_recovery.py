"""Vectors of recovery kits."""

import hashlib

from make_common import Cases, domain, envelope, flip, hkdf, rand, wrap, x25519_public

cases = Cases("recovery")
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def multiply(one, two):
    """Multiply in GF(2)[x] modulo x^5 + x^2 + 1."""
    product = 0
    for bit in range(5):
        if two >> bit & 1:
            product ^= one << bit
    for bit in range(9, 4, -1):
        if product >> bit & 1:
            product ^= 0b100101 << bit - 5
    return product


def groups(payload):
    """Encode 300 bits, given as an integer, in 15 groups."""
    bits = f"{payload:0300b}"
    result = []
    for index in range(15):
        data = [int(bits[20 * index + 5 * i : 20 * index + 5 * i + 5], 2) for i in range(4)]
        check, power = index, 1
        for symbol in data:
            power = multiply(power, 2)
            check ^= multiply(power, symbol)
        result.append("".join(ALPHABET[symbol] for symbol in [*data, check]))
    return result


def payload(secret, version=1):
    checksum = hashlib.sha256(domain("recovery/check") + bytes([version]) + secret).digest()[:5]
    return int.from_bytes(bytes([version]) + secret + checksum, "big")


for name, secret in {"random": rand("kit"), "zeros": bytes(32), "ones": bytes([255]) * 32}.items():
    locator = hkdf(secret, domain("recovery/locator"))
    outputs = {
        "secret": secret,
        "signing_seed": hkdf(secret, domain("recovery/sign")),
        "encryption_private": hkdf(secret, domain("recovery/encrypt")),
        "encryption_public": x25519_public(hkdf(secret, domain("recovery/encrypt"))),
        "locator": locator,
        "rendezvous": hashlib.sha256(domain("recovery/rendezvous") + locator).digest(),
        "groups": " ".join(groups(payload(secret))),
    }
    cases.add(f"kit-ok-{name}", "kit", "ok", {"text": " ".join(groups(payload(secret)))}, outputs)

SECRET = rand("kit")
GROUPS = groups(payload(SECRET))


def kit_case(name, expect, text):
    cases.add(f"kit-{name}", "kit", expect, {"text": text}, {"secret": SECRET} if expect == "ok" else None)


def replaced(group, position, offset=1):
    changed = list(GROUPS)
    old = changed[group]
    new = ALPHABET[(ALPHABET.index(old[position]) + offset) % 32]
    changed[group] = old[:position] + new + old[position + 1 :]
    return " ".join(changed)


kit_case("ok-lower-case-hyphens", "ok", "-".join(GROUPS).lower())
kit_case("ok-similar-characters", "ok", " ".join(GROUPS).replace("0", "O").replace("1", "l"))
kit_case("ok-no-separators", "ok", "".join(GROUPS))
file_text = "SOVEREIGN RECOVERY KIT\r\n\r\nName: Ann\r\n" + "".join(
    f"Key: {' '.join(GROUPS[i : i + 5])}\r\n" for i in (0, 5, 10)
)
kit_case("ok-file", "ok", file_text + "Bootstrap: /ip4/192.0.2.1/tcp/4001\r\n")
kit_case("wrong-character", "format", replaced(3, 2))
kit_case("wrong-check-character", "format", replaced(14, 4))
kit_case("groups-swapped", "format", " ".join([GROUPS[1], GROUPS[0], *GROUPS[2:]]))
kit_case("unused-character", "format", " ".join(["U" + GROUPS[0][1:], *GROUPS[1:]]))
kit_case("group-missing", "format", " ".join(GROUPS[:-1]))
kit_case("wrong-checksum", "format", " ".join(groups(payload(SECRET) ^ 1)))
kit_case("version-2", "format", " ".join(groups(payload(SECRET, 2))))
kit_case("empty", "format", "")

PRIVATE = hkdf(SECRET, domain("recovery/encrypt"))
KEY, SALT, EPHEMERAL = rand("record key"), rand("record salt"), rand("record ephemeral")


def record(context, plaintext):
    bound = domain("recovery/wrap") + context
    wrapped = wrap(4, x25519_public(PRIVATE), KEY, bound, bound, EPHEMERAL)
    return wrapped + envelope(5, KEY, bound, plaintext, SALT)


RECORD = record(b"revision 1", b"the bundle")


def record_case(name, expect, sealed, *, context=b"revision 1", secret=SECRET, plaintext=None):
    outputs = None if plaintext is None else {"plaintext": plaintext}
    cases.add(f"record-{name}", "record", expect, {"secret": secret, "context": context, "sealed": sealed}, outputs)


record_case("ok", "ok", RECORD, plaintext=b"the bundle")
record_case("ok-empty", "ok", record(b"", b""), context=b"", plaintext=b"")
record_case("other-context", "authentication", RECORD, context=b"revision 2")
record_case("other-kit", "authentication", RECORD, secret=rand("other kit"))
record_case("flipped-wrap", "authentication", flip(RECORD, 30))
record_case("flipped-envelope", "authentication", flip(RECORD, len(RECORD) - 1))
record_case("truncated", "format", RECORD[:193])
record_case("no-wrap", "format", RECORD[106:] + bytes(106))
cases.write()

"""Vectors of the sealed envelope."""

from make_common import Cases, envelope, flip, rand

cases = Cases("envelope")
KEY, SALT, CONTEXT = rand("envelope key"), rand("envelope salt"), b"context of the envelope"
PLAINTEXT = b"what is sealed"
SEALED = envelope(1, KEY, CONTEXT, PLAINTEXT, SALT)


def case(name, expect, *, sealed=SEALED, purpose=1, key=KEY, context=CONTEXT, plaintext=None):
    inputs = {"purpose": purpose, "key": key, "context": context, "sealed": sealed}
    cases.add(name, "open", expect, inputs, None if plaintext is None else {"plaintext": plaintext})


case("ok-chunk", "ok", plaintext=PLAINTEXT)
for number in range(2, 9):
    sealed = envelope(number, KEY, CONTEXT, PLAINTEXT, SALT)
    case(f"ok-purpose-{number}", "ok", sealed=sealed, purpose=number, plaintext=PLAINTEXT)
case("ok-empty-plaintext", "ok", sealed=envelope(1, KEY, CONTEXT, b"", SALT), plaintext=b"")
case("ok-empty-context", "ok", sealed=envelope(1, KEY, b"", PLAINTEXT, SALT), context=b"", plaintext=PLAINTEXT)
long = rand("long plaintext", 4096)
case("ok-4096-bytes", "ok", sealed=envelope(1, KEY, CONTEXT, long, SALT), plaintext=long)

case("wrong-key", "authentication", key=rand("another key"))
case("wrong-context", "authentication", context=CONTEXT + b"\0")
case("context-moved-into-plaintext", "authentication", context=CONTEXT[:-1])
case("flipped-salt", "authentication", sealed=flip(SEALED, 8))
case("flipped-commitment", "authentication", sealed=flip(SEALED, 71, 7))
lie = envelope(1, KEY, CONTEXT, PLAINTEXT, SALT, rand("another commitment"))
case("good-tag-under-wrong-commitment", "authentication", sealed=lie)
case("flipped-ciphertext", "authentication", sealed=flip(SEALED, 72))
case("flipped-tag", "authentication", sealed=flip(SEALED, len(SEALED) - 1, 7))
case("extended", "authentication", sealed=SEALED + b"\0")
case("last-byte-missing", "authentication", sealed=SEALED[:-1])
case("relabelled-purpose", "authentication", sealed=flip(SEALED, 7, 1), purpose=3)
case("other-purpose", "format", purpose=2)
case("other-magic", "format", sealed=b"SVE2" + SEALED[4:])
case("version-2", "format", sealed=SEALED[:4] + b"\x02" + SEALED[5:])
case("suite-2", "format", sealed=SEALED[:5] + b"\x02" + SEALED[6:])
case("too-short", "format", sealed=SEALED[:87])
case("empty", "format", sealed=b"")
case("short-key", "parameter", key=KEY[:31])
cases.write()

"""Recovery kits: derived keys, kit files, records sealed to a kit."""

import hashlib

import pytest

from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import AuthenticationError, FormatError, ParameterError
from sovereign_crypto.recovery import (
    KitHints,
    RecoveryKit,
    open_with_recovery,
    parse_kit_file,
    recovery_rendezvous,
    render_kit_file,
    seal_to_recovery,
)

KIT = RecoveryKit(bytes(range(32)))
HINTS = KitHints("Ann's laptop", bytes([3]) * 32, ("/ip4/192.0.2.1/tcp/4001/p2p/x", "/dns4/a.example/tcp/1"))


def test_derived_keys_differ():
    derived = {
        KIT.secret,
        KIT.signing_key.seed,
        KIT.encryption_key.seed,
        KIT.locator,
        KIT.rendezvous,
    }
    assert len(derived) == 5
    assert RecoveryKit.generate().secret != RecoveryKit.generate().secret


def test_the_rendezvous_hides_the_locator():
    expected = hashlib.sha256(Domain.RECOVERY_RENDEZVOUS.prefix + KIT.locator).digest()
    assert KIT.rendezvous == recovery_rendezvous(KIT.locator) == expected


def test_groups_round_trip():
    assert RecoveryKit.parse(KIT.to_groups()) == KIT
    with pytest.raises(FormatError):
        RecoveryKit(bytes(31))


def test_the_secret_does_not_show():
    assert repr(KIT) == "RecoveryKit()"


@pytest.mark.parametrize("hints", [HINTS, KitHints(), KitHints(bootstrap=("/ip4/127.0.0.1/tcp/1",))])
def test_kit_file_round_trip(hints):
    assert parse_kit_file(render_kit_file(KIT, hints)) == (KIT, hints)


def test_a_kit_file_survives_editors_and_typing():
    text = render_kit_file(KIT, HINTS)
    for changed in (
        text.replace("\n", "\r\n"),
        text.replace("Key: ", "  key:   "),
        "\ufeff" + text,
        text + "\n\nA note that I wrote below.\n",
        "\n".join("    " + line for line in text.splitlines()),
    ):
        assert parse_kit_file(changed) == (KIT, HINTS)


def test_bare_groups_are_a_kit_file():
    for typed in (KIT.to_groups(), KIT.to_groups().lower().replace(" ", "-"), "\ufeff" + KIT.to_groups() + "\n"):
        assert parse_kit_file(typed) == (KIT, KitHints())


def test_hints_cannot_add_lines():
    hints = KitHints("Ann\nBootstrap: /ip4/6.6.6.6/tcp/1", None, ("/ip4/1.1.1.1/tcp/1\nKey: AAAAA",))
    kit, parsed = parse_kit_file(render_kit_file(KIT, hints))
    assert kit == KIT
    assert parsed.bootstrap == ("/ip4/1.1.1.1/tcp/1 Key: AAAAA",)


def test_a_mistake_in_a_kit_file_names_the_group():
    groups = KIT.to_groups().split()
    wrong = groups[6][:-1] + ("0" if groups[6][-1] != "0" else "2")
    with pytest.raises(FormatError, match="group 7"):
        parse_kit_file(render_kit_file(KIT, HINTS).replace(groups[6], wrong))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "Key:",
        "x" * 65537,
        render_kit_file(KIT, HINTS).replace("Identity: 03", "Identity: zz"),
        render_kit_file(KIT, HINTS).replace("Identity: 03", "Identity: "),
    ],
    ids=["empty", "prose", "no groups", "long", "not hexadecimal", "short identity"],
)
def test_unreadable_kit_files(text):
    with pytest.raises(FormatError):
        parse_kit_file(text)


def test_records_round_trip():
    sealed = seal_to_recovery(KIT.encryption_key.public, b"revision 1", b"the bundle")
    assert open_with_recovery(KIT, b"revision 1", sealed) == b"the bundle"
    with pytest.raises(AuthenticationError):
        open_with_recovery(KIT, b"revision 2", sealed)
    with pytest.raises(AuthenticationError):
        open_with_recovery(RecoveryKit.generate(), b"revision 1", sealed)


def test_every_flipped_bit_of_a_record():
    sealed = seal_to_recovery(KIT.encryption_key.public, b"", b"x")
    for bit in range(len(sealed) * 8):
        bad = bytearray(sealed)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, AuthenticationError)):
            open_with_recovery(KIT, b"", bytes(bad))
    for length in range(len(sealed)):
        with pytest.raises((FormatError, AuthenticationError)):
            open_with_recovery(KIT, b"", sealed[:length])


def test_context_limit():
    sealed = seal_to_recovery(KIT.encryption_key.public, bytes(1002), b"x")
    assert open_with_recovery(KIT, bytes(1002), sealed) == b"x"
    with pytest.raises(ParameterError):
        seal_to_recovery(KIT.encryption_key.public, bytes(1003), b"")

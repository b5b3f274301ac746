"""The identity log: what may follow what, who may do what, and what a fork leaves behind."""

import pytest

from sovereign_crypto.certificate import Capability
from sovereign_crypto.errors import FormatError, SignatureError
from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.identity import (
    CertificateError,
    CertificateFault,
    ForkError,
    IdentityAnchor,
    IdentityLog,
    IdentityRoot,
    LogError,
    Position,
    RollbackError,
    build_add_device,
    build_genesis,
    build_puk_rotate,
    build_recovery_change,
    build_revoke_device,
    build_root_rotate,
    compute_identity_id,
    issue_certificate,
    parse_certificate,
)
from sovereign_crypto.identity_entries import MAX_ACTIVE_DEVICES, MAX_ENTRIES
from sovereign_crypto.recovery import RecoveryKit
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import StatementType, sign_statement

KIT = RecoveryKit(bytes([1]) * 32)
ROOT = IdentityRoot(bytes([2]) * 32)
ANCHOR = IdentityAnchor(ROOT.signing_key.public, KIT.signing_key.public, bytes(16))
USER_PK = EncryptionKey.from_seed(bytes([3]) * 32).public
DEVICE_ENC = EncryptionKey.from_seed(bytes([4]) * 32).public
GENESIS = build_genesis(ROOT.signing_key, ANCHOR, recovery_enc_pk=KIT.encryption_key.public, user_pk=USER_PK, at=1)
NOW = 1000


def device(number: int) -> SigningKey:
    return SigningKey.from_seed(number.to_bytes(32, "big"))


def certificate(key: SigningKey, serial: int, root: IdentityRoot = ROOT, anchor=ANCHOR) -> bytes:
    return issue_certificate(
        root.signing_key,
        anchor,
        key,
        device_enc_pk=DEVICE_ENC,
        caps=Capability.READ,
        not_before=0,
        not_after=86400,
        serial=serial,
    )


def add(log: IdentityLog, key: SigningKey, root: IdentityRoot = ROOT) -> bytes:
    raw = certificate(key, log.next_serial, root)
    log.append(build_add_device(root.signing_key, log.next_position, raw, at=2))
    return raw


def revoke(log: IdentityLog, key: SigningKey, root: IdentityRoot = ROOT) -> None:
    entry = build_revoke_device(root.signing_key, log.next_position, key.public, last_accepted=41, at=3)
    log.append(entry)


def rotate_root(log: IdentityLog, root: IdentityRoot, kit: RecoveryKit = KIT) -> None:
    entry = build_root_rotate(kit.signing_key, log.next_position, log.identity_id, root.signing_key, at=4)
    log.append(entry)


@pytest.fixture
def log() -> IdentityLog:
    return IdentityLog(GENESIS)


def test_a_whole_life(log):
    assert log.identity_id == compute_identity_id(ANCHOR.identity_pk, ANCHOR.recovery_pk, ANCHOR.nonce)
    assert (log.head[0], log.generation, log.user_generation) == (0, 0, 0)
    assert (log.user_pk, log.recovery_enc_pk) == (USER_PK, KIT.encryption_key.public)
    first = add(log, device(1))
    add(log, device(2))
    assert set(log.active_devices) == {device(1).public, device(2).public}
    assert log.active_devices[device(1).public].raw == first
    revoke(log, device(2))
    assert log.is_active(device(1).public)
    assert not log.is_active(device(2).public)
    assert dict(log.revoked_devices) == {device(2).public: 41}
    new_user_pk = EncryptionKey.generate().public
    log.append(
        build_puk_rotate(
            ROOT.signing_key,
            log.next_position,
            generation=1,
            user_pk=new_user_pk,
            boxes=[bytes(106)],
            at=5,
        )
    )
    assert (log.user_pk, log.user_generation) == (new_user_pk, 1)
    copy = IdentityLog.verify(log.entries, identity_id=log.identity_id)
    assert copy.head == log.head
    assert dict(copy.active_devices) == dict(log.active_devices)
    assert log.anchor == ANCHOR


def test_roots_and_anchors():
    root = IdentityRoot.generate(2)
    assert root.generation == 2
    assert root.seal_key != root.signing_key.seed != root.seed
    assert root.seed.hex() not in repr(root)
    anchor = root.new_anchor(KIT.signing_key.public)
    assert anchor != root.new_anchor(KIT.signing_key.public)
    assert anchor.identity_pk == root.signing_key.public
    with pytest.raises(FormatError):
        IdentityRoot(bytes(31))


def test_certificates_by_the_log(log):
    old = parse_certificate(add(log, device(1)))
    log.check_certificate(old, NOW)
    renewed = parse_certificate(add(log, device(1)))
    log.check_certificate(renewed, NOW)

    def fault(log: IdentityLog, checked, now: int = NOW) -> CertificateFault:
        with pytest.raises(CertificateError) as caught:
            log.check_certificate(checked, now)
        return caught.value.fault

    assert fault(log, old) == CertificateFault.SUPERSEDED
    assert fault(log, renewed, 10**6) == CertificateFault.EXPIRED
    ahead = parse_certificate(certificate(device(1), 99))
    assert fault(log, ahead) == CertificateFault.NOT_IN_LOG
    assert fault(log, parse_certificate(certificate(device(3), 99))) == CertificateFault.NOT_IN_LOG
    other_root = IdentityRoot(bytes([9]) * 32)
    other_anchor = IdentityAnchor(other_root.signing_key.public, KIT.signing_key.public, bytes(16))
    foreign = certificate(device(1), 1, other_root, other_anchor)
    assert fault(log, parse_certificate(foreign)) == CertificateFault.OTHER_IDENTITY
    revoke(log, device(1))
    assert fault(log, renewed) == CertificateFault.REVOKED
    rotate_root(log, IdentityRoot(bytes([8]) * 32))
    stale = parse_certificate(certificate(device(5), 50))
    assert fault(log, stale) == CertificateFault.OLD_IDENTITY_KEY


def test_a_revoked_device_does_not_come_back(log):
    add(log, device(1))
    revoke(log, device(1))
    with pytest.raises(CertificateError) as caught:
        add(log, device(1))
    assert caught.value.fault == CertificateFault.REVOKED
    with pytest.raises(LogError):
        revoke(log, device(1))


def test_serials_go_up(log):
    add(log, device(1))
    raw = certificate(device(2), log.next_serial - 1)
    with pytest.raises(LogError):
        log.append(build_add_device(ROOT.signing_key, log.next_position, raw, at=1))


def test_generations_go_up_by_one(log):
    for generation in (2, 3):
        entry = build_puk_rotate(ROOT.signing_key, log.next_position, generation=generation, user_pk=USER_PK, at=1)
        with pytest.raises(LogError):
            log.append(entry)


def test_a_refused_entry_changes_nothing(log):
    add(log, device(1))
    before = (log.entries, log.head, dict(log.active_devices), log.next_serial, log.user_pk)
    raw = certificate(device(2), log.next_serial)
    signed_by_device = build_add_device(device(1), log.next_position, raw, at=1)
    with pytest.raises(LogError):
        log.append(signed_by_device)
    assert before == (log.entries, log.head, dict(log.active_devices), log.next_serial, log.user_pk)


def test_only_the_recovery_key_rotates(log):
    new = IdentityRoot(bytes([8]) * 32, 1)
    by_identity = build_root_rotate(ROOT.signing_key, log.next_position, log.identity_id, new.signing_key, at=1)
    with pytest.raises(LogError):
        log.append(by_identity)
    add(log, device(1))
    rotate_root(log, new)
    assert (log.identity_pk, log.generation) == (new.signing_key.public, 1)
    assert not log.active_devices
    assert log.identity_id == ANCHOR.identity_id
    with pytest.raises(LogError):
        log.append(build_add_device(ROOT.signing_key, log.next_position, certificate(device(1), 9), at=1))
    again = add(log, device(1), new)
    log.check_certificate(parse_certificate(again), NOW)
    assert not parse_certificate(again).self_certified
    assert IdentityLog.verify(log.entries).identity_pk == new.signing_key.public


def test_recovery_change(log):
    new_kit = RecoveryKit(bytes([7]) * 32)
    log.append(
        build_recovery_change(
            KIT.signing_key,
            log.next_position,
            log.identity_id,
            new_kit.signing_key,
            new_kit.encryption_key.public,
            at=1,
        )
    )
    assert (log.recovery_pk, log.recovery_enc_pk) == (
        new_kit.signing_key.public,
        new_kit.encryption_key.public,
    )
    with pytest.raises(LogError):
        rotate_root(log, IdentityRoot.generate(), KIT)
    rotate_root(log, IdentityRoot.generate(), new_kit)
    back = build_recovery_change(
        new_kit.signing_key,
        log.next_position,
        log.identity_id,
        KIT.signing_key,
        KIT.encryption_key.public,
        at=1,
    )
    with pytest.raises(LogError, match="come back"):
        log.append(back)


def test_an_old_identity_key_does_not_come_back(log):
    rotate_root(log, IdentityRoot.generate())
    with pytest.raises(LogError, match="come back"):
        rotate_root(log, ROOT)


@pytest.mark.parametrize(
    ("action", "name", "more"),
    [
        ("root-rotate", "identity_key", {}),
        ("recovery-change", "recovery_key", {"recovery_encryption_key": DEVICE_ENC}),
    ],
)
def test_a_rotation_needs_the_new_key(log, action, name, more):
    position = log.next_position
    stolen = SigningKey.generate().public
    body = {
        "v": 1,
        "seq": position.seq,
        "prev": position.prev,
        "action": action,
        "args": {name: stolen, "proof": KIT.signing_key.sign(b"x"), **more},
        "at": 1,
    }
    with pytest.raises(LogError, match="did not sign"):
        log.append(sign_statement(StatementType.IDENTITY_ENTRY, body, KIT.signing_key).raw)


def test_gap_and_wrong_previous_hash(log):
    raw = certificate(device(1), 0)
    gap = build_add_device(ROOT.signing_key, Position(2, log.head[1]), raw, at=1)
    with pytest.raises(LogError, match="missing"):
        log.append(gap)
    bad_prev = build_add_device(ROOT.signing_key, Position(1, bytes(32)), raw, at=1)
    with pytest.raises(LogError, match="another history"):
        log.append(bad_prev)


def test_the_same_entry_twice_and_a_fork(log):
    position = log.next_position
    ours = build_add_device(ROOT.signing_key, position, certificate(device(1), 0), at=1)
    theirs = build_add_device(ROOT.signing_key, position, certificate(device(2), 0), at=1)
    log.append(ours)
    with pytest.raises(LogError, match="already"):
        log.append(ours)
    with pytest.raises(ForkError) as caught:
        log.append(theirs)
    assert (caught.value.ours, caught.value.theirs) == (ours, theirs)
    noise = build_add_device(device(9), position, certificate(device(2), 0), at=1)
    with pytest.raises(LogError, match="may not"):
        log.append(noise)


def test_rollback_and_contradiction(log):
    older = IdentityLog.verify(log.entries)
    add(log, device(1))
    log.check_head(older.head)
    log.check_head(log.head)
    with pytest.raises(RollbackError):
        older.check_head(log.head)
    with pytest.raises(LogError, match="contradicts"):
        log.check_head((1, bytes(32)))


def test_prefer_the_longer_log(log):
    older = IdentityLog.verify(log.entries)
    add(log, device(1))
    assert log.extends(older)
    assert not older.extends(log)
    assert log.prefer(older) is log
    assert older.prefer(log) is log


def test_the_recovery_key_decides_a_split(log):
    thief = IdentityLog.verify(log.entries)
    add(thief, device(66))
    add(thief, device(67))
    rotate_root(log, IdentityRoot(bytes([8]) * 32))
    assert log.prefer(thief) is log
    assert thief.prefer(log) is log


def change_kit(log: IdentityLog, new_kit: RecoveryKit) -> None:
    entry = build_recovery_change(
        KIT.signing_key,
        log.next_position,
        log.identity_id,
        new_kit.signing_key,
        new_kit.encryption_key.public,
        at=1,
    )
    log.append(entry)


@pytest.mark.parametrize("first", [True, False], ids=["change first", "change later"])
def test_the_thief_of_an_old_kit_does_not_undo_its_replacement(log, first):
    thief = IdentityLog.verify(log.entries)
    if not first:
        add(log, device(1))
    change_kit(log, RecoveryKit(bytes([7]) * 32))
    rotate_root(thief, IdentityRoot(bytes([8]) * 32))
    for one, other in ((log, thief), (thief, log)):
        with pytest.raises(ForkError) as caught:
            one.prefer(other)
        assert caught.value.ours == one.entries[1]


def test_a_split_by_the_same_key_is_a_fork(log):
    other = IdentityLog.verify(log.entries)
    add(log, device(1))
    add(other, device(2))
    with pytest.raises(ForkError) as caught:
        log.prefer(other)
    assert (caught.value.ours, caught.value.theirs) == (log.entries[1], other.entries[1])


def test_logs_of_two_identities(log):
    root = IdentityRoot.generate()
    anchor = root.new_anchor(KIT.signing_key.public)
    genesis = build_genesis(
        root.signing_key, anchor, recovery_enc_pk=KIT.encryption_key.public, user_pk=USER_PK, at=1
    )
    with pytest.raises(LogError):
        log.prefer(IdentityLog(genesis))
    with pytest.raises(LogError):
        IdentityLog.verify([genesis], identity_id=log.identity_id)


def entry_body(**changes) -> dict:
    body = {"v": 1, "seq": 1, "prev": bytes(32), "action": "revoke-device", "at": 1}
    return body | {"args": {"device_key": device(1).public, "last_accepted": 0}} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"seq": -1},
        {"seq": MAX_ENTRIES},
        {"seq": True},
        {"prev": bytes(31)},
        {"action": "dance"},
        {"action": 1},
        {"args": []},
        {"args": {}},
        {"args": {"device_key": bytes(32), "last_accepted": 0}},
        {"args": {"device_key": device(1).public, "last_accepted": 0, "more": 0}},
        {"action": "puk-rotate", "args": {"generation": 1, "user_key": bytes(32), "boxes": []}},
        {"action": "puk-rotate", "args": {"generation": 1, "user_key": USER_PK, "boxes": [b""] * 65}},
        {"action": "puk-rotate", "args": {"generation": 1, "user_key": USER_PK, "boxes": [bytes(2049)]}},
        {"action": "puk-rotate", "args": {"generation": 1, "user_key": USER_PK, "boxes": b""}},
        {"action": "add-device", "args": {"certificate": bytes(1025)}},
        {"seq": 0},
        {"note": "x"},
    ],
    ids=str,
)
def test_entries_outside_the_schema(log, changes):
    raw = sign_statement(StatementType.IDENTITY_ENTRY, entry_body(**changes), ROOT.signing_key).raw
    with pytest.raises(FormatError):
        log.append(raw)


def test_builders_do_not_make_what_others_refuse(log):
    with pytest.raises(FormatError):
        build_revoke_device(ROOT.signing_key, log.next_position, bytes(32), last_accepted=0, at=1)


def test_starts_that_are_none(log):
    with pytest.raises(LogError):
        IdentityLog.verify([])
    with pytest.raises(LogError):
        IdentityLog(sign_statement(StatementType.IDENTITY_ENTRY, entry_body(), ROOT.signing_key).raw)
    stranger = SigningKey.generate()
    with pytest.raises(LogError, match="signed by the identity key"):
        IdentityLog(build_genesis(stranger, ANCHOR, recovery_enc_pk=DEVICE_ENC, user_pk=USER_PK, at=1))
    with pytest.raises(SignatureError):
        IdentityLog(GENESIS, network_id=bytes(32))
    with pytest.raises(ForkError):
        log.append(build_genesis(ROOT.signing_key, ANCHOR, recovery_enc_pk=DEVICE_ENC, user_pk=USER_PK, at=2))


def test_every_flipped_bit_of_an_entry_is_refused(log):
    raw = build_revoke_device(ROOT.signing_key, log.next_position, device(1).public, last_accepted=0, at=1)
    for bit in range(0, len(raw) * 8, 3):
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, SignatureError)):
            log.append(bytes(bad))


def test_device_cap(log):
    for number in range(1, MAX_ACTIVE_DEVICES + 1):
        add(log, device(number))
    with pytest.raises(LogError, match="too many"):
        add(log, device(MAX_ACTIVE_DEVICES + 1))
    add(log, device(1))
    revoke(log, device(1))
    add(log, device(MAX_ACTIVE_DEVICES + 1))


@pytest.mark.slow
def test_entry_cap(log):
    while len(log.entries) < MAX_ENTRIES:
        entry = build_puk_rotate(
            ROOT.signing_key,
            log.next_position,
            generation=log.user_generation + 1,
            user_pk=USER_PK,
            at=1,
        )
        log.append(entry)
    with pytest.raises(FormatError):
        rotate_root(log, IdentityRoot.generate())

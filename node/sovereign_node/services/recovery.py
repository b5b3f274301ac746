"""The identity record: keeps it up to date at providers and own devices, and takes over what other devices wrote.

Source: protocols/specs/identity-record.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.identity import IdentityLog
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.contracts import adopt_contract, contract_entries
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.project_keys import adopt_project, project_entries
from sovereign_node.store import State
from sovereign_node.store.devices import Device
from sovereign_protocols.recovery.record import (
    DeviceEntry,
    IdentityRecord,
    open_record,
    seal_record,
)

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

REFRESH_INTERVAL_S = 15 * 60
MIN_INTERVAL_S = 2.0
RETRY_INTERVAL_S = 30
PLACE_TIMEOUT_S = 30
SETTLE_TIMEOUT_S = 15
WRITE_ATTEMPTS = 5
# The code of the error that a place raises when it holds the same or a higher revision.
NEWER_RECORD = "identity_record_newer"
_REVISION_KEY = "identity_record_revision"


@dataclass(frozen=True)
class StoredRecord:
    """A record as a place keeps it; the revision is what the writer told the place."""

    revision: int
    sealed: bytes


class RecordPlace(Protocol):
    """Where identity records are kept: a provider, or this device's own store."""

    name: str

    async def get(self, locator: bytes) -> list[StoredRecord]:
        """Return the records under a locator."""

    async def set(self, locator: bytes, revision: int, sealed: bytes) -> None:
        """Store a record.

        Raises:
            NodeError: unreachable, or it holds the same or a higher revision.
        """


def open_records(
    sealed: Sequence[bytes], key: EncryptionKey, locator: bytes, network_id: bytes
) -> list[IdentityRecord]:
    """Open what can be opened and was written by a device of the identity; oldest revision first.

    Args:
        sealed: candidates from anywhere.
        key: of the recovery kit or of a device.
        locator: 32 bytes.
        network_id: 32 bytes.
    """
    found: list[IdentityRecord] = []
    for item in sealed:
        try:
            opened = open_record(item, key=key, locator=locator, network_id=network_id)
            identity_log = IdentityLog.verify(
                opened.record.log, network_id=network_id, identity_id=opened.record.identity_id
            )
        except CryptoError as error:
            log.info("identity_record_refused", reason=type(error).__name__)
            continue
        if not identity_log.is_active(opened.writer):
            log.warning("identity_record_refused", reason="written by a device that is not active")
            continue
        found.append(opened.record)
    return sorted(found, key=lambda record: record.revision)


def combine_records(records: Sequence[IdentityRecord]) -> IdentityRecord | None:
    """Return the newest record with what only others of the same identity have; None without any.

    Two devices that write at the same moment, one to each of two providers, leave different records with one
    revision; nothing of either may be lost.

    Args:
        records: oldest revision first.
    """
    if not records:
        return None
    newest = records[-1]
    for record in records[-2::-1]:
        if record.identity_id == newest.identity_id:
            newest = replace(merge_records(record, newest, b""), log=newest.log, root_box=newest.root_box)
    return newest


def merge_records(ours: IdentityRecord, theirs: IdentityRecord, own_device: bytes) -> IdentityRecord:
    """Return the union; the log is ours, already the preferred one.

    What both know stays as the record has it, so that two devices never overwrite each other in turns; only the
    entry of the own device follows this device's settings.
    """
    own = [item for item in ours.devices if item.public_key == own_device]
    projects = {item.project_id: item for item in (*ours.projects, *theirs.projects)}
    contracts = {item.customer_statement: item for item in (*ours.contracts, *theirs.contracts)}
    devices = {item.public_key: item for item in (*ours.devices, *theirs.devices, *own)}
    return replace(
        ours,
        revision=max(ours.revision, theirs.revision),
        user_keys=max(ours.user_keys, theirs.user_keys, key=len),
        projects=tuple(projects[key] for key in sorted(projects)),
        contracts=tuple(contracts[key] for key in sorted(contracts)),
        devices=tuple(devices[key] for key in sorted(devices)),
    )


def _same(one: IdentityRecord, other: IdentityRecord) -> bool:
    return replace(one, revision=0) == replace(other, revision=0)


class Recovery:
    """Publishes and follows the identity record.

    Args:
        identity: whose record it is.
        keys: opens and signs.
        state: what goes into the record.
        clock: wall time.
        places: where it is kept, by what can be reached now.
        on_adopted: told after something of another device was taken over.
    """

    def __init__(
        self,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        clock: Clock,
        places: Callable[[], list[RecordPlace]],
        on_adopted: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._keys = keys
        self._state = state
        self._clock = clock
        self._places = places
        self._on_adopted = on_adopted
        self._wake = trio.Event()
        self._lock = trio.Lock()
        self._is_dirty = True
        self._was_overtaken = False

    def publish_soon(self) -> None:
        """Bring the record up to date: something that belongs into it has changed."""
        self._is_dirty = True
        self._wake.set()

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the record up to date until cancelled."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            reached_all = await self.synchronise()
            await trio.sleep(MIN_INTERVAL_S)
            with trio.move_on_after(REFRESH_INTERVAL_S if reached_all else RETRY_INTERVAL_S):
                await self._wake.wait()

    async def synchronise(self) -> bool:
        """Read the record everywhere, merge, and write where it is old.

        Returns:
            True if every place holds the newest record now.
        """
        async with self._lock:
            self._is_dirty = False
            for attempt in range(WRITE_ATTEMPTS):
                self._was_overtaken = False
                reached_all = await self._synchronise()
                if not self._was_overtaken:
                    break
                # Another device wrote in between: read again, merge, and try once more, not in step with it.
                await trio.sleep(random.uniform(0.05, 0.3) * (attempt + 1))  # noqa: S311
            self._is_dirty |= not reached_all
            return reached_all

    async def follow(self, place: RecordPlace) -> bool:
        """Take over what one place tells of other devices and their projects.

        Returns:
            True if this device now knows all that the place does; False if it did not answer, or holds a record
            that this device can't read.
        """
        async with self._lock:
            stored = (await self._read([place]))[place.name]
            if stored is None:
                return False
            records = self._open(stored)
            for record in records:
                if await trio.to_thread.run_sync(self._adopt_content, record):
                    self._on_adopted()
            known = max((record.revision for record in records), default=0)
            return all(item.revision <= known for item in stored)

    async def settle(self) -> None:
        """Write what has changed, if anything has: before a backup, or a kit would not find its keys."""
        if self._is_dirty:
            with trio.move_on_after(SETTLE_TIMEOUT_S):
                await self.synchronise()

    async def _synchronise(self) -> bool:
        places = self._places()
        found = await self._read(places)
        opened = {name: self._open(stored or []) for name, stored in found.items()}
        best = combine_records(
            sorted((record for records in opened.values() for record in records), key=lambda item: item.revision)
        )
        if best is not None and await trio.to_thread.run_sync(self._adopt, best):
            self._on_adopted()
        known = best.revision if best is not None else self._adopted_revision()
        highest = max((item.revision for stored in found.values() for item in stored or ()), default=0)
        if highest > known:
            # Written before this device was in the log, and newer than what it joined with: writing over it would
            # lose what the other device wrote. That device adds this one as a reader at its next start.
            log.warning("identity_record_not_readable")
            return False
        current = await trio.to_thread.run_sync(build_record, self._identity, self._keys, self._state)
        merged = merge_records(current, best, self._keys.public) if best is not None else current
        stale = [place for place in places if not any(_same(record, merged) for record in opened[place.name][-1:])]
        reached_all = all(stored is not None for stored in found.values())
        return await self._write(stale, replace(merged, revision=known + 1)) and reached_all

    async def write_after_joining(self, joined_with: IdentityRecord) -> bool:
        """Write the record with this new device in it, which cannot read the one before.

        Args:
            joined_with: the record that the recovery kit opened.

        Returns:
            True if every place took it.
        """
        await trio.to_thread.run_sync(self._note_adopted, joined_with.revision)
        current = await trio.to_thread.run_sync(build_record, self._identity, self._keys, self._state)
        merged = merge_records(current, joined_with, self._keys.public)
        return await self._write(self._places(), replace(merged, revision=joined_with.revision + 1))

    async def _read(self, places: Sequence[RecordPlace]) -> dict[str, list[StoredRecord] | None]:
        found: dict[str, list[StoredRecord] | None] = {place.name: None for place in places}

        async def read(place: RecordPlace) -> None:
            try:
                with trio.fail_after(PLACE_TIMEOUT_S):
                    found[place.name] = await place.get(self._identity.secrets.locator)
            except (NodeError, trio.TooSlowError) as error:
                log.info("identity_record_not_read", place=place.name, reason=str(error))

        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(read, place)
        return found

    async def _write(self, places: Sequence[RecordPlace], record: IdentityRecord) -> bool:
        if not places:
            return True
        sealed = await trio.to_thread.run_sync(self._seal, record)
        failed: list[str] = []

        async def write(place: RecordPlace) -> None:
            try:
                with trio.fail_after(PLACE_TIMEOUT_S):
                    await place.set(self._identity.secrets.locator, record.revision, sealed)
            except (NodeError, trio.TooSlowError) as error:
                failed.append(place.name)
                self._was_overtaken |= isinstance(error, NodeError) and error.code == NEWER_RECORD
                log.info("identity_record_not_written", place=place.name, reason=str(error))

        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(write, place)
        return not failed

    def _open(self, stored: Sequence[StoredRecord]) -> list[IdentityRecord]:
        return open_records(
            [item.sealed for item in stored],
            self._keys.encryption,
            self._identity.secrets.locator,
            self._identity.network_id,
        )

    def _adopted_revision(self) -> int:
        return int(self._state.meta.get(_REVISION_KEY) or 0)

    def _note_adopted(self, revision: int) -> None:
        self._state.meta.set(_REVISION_KEY, str(revision))

    def _seal(self, record: IdentityRecord) -> bytes:
        identity_log = self._identity.log
        recipients = [identity_log.recovery_enc_pk]
        recipients += [certificate.device_enc_pk for certificate in identity_log.active_devices.values()]
        return seal_record(
            record,
            recipients=recipients,
            locator=self._identity.secrets.locator,
            key=self._keys.signing,
            network_id=self._identity.network_id,
        )

    def _adopt(self, record: IdentityRecord) -> bool:
        self._note_adopted(record.revision)
        return self._adopt_content(record)

    def _adopt_content(self, record: IdentityRecord) -> bool:
        return adopt_record(record, self._identity, self._keys, self._state, at=self._clock())


def build_record(identity: OwnIdentity, keys: DeviceKeys, state: State) -> IdentityRecord:
    """Collect from the state what belongs into the record; revision 0."""
    devices = state.devices.all(identity=identity.identity_id)
    return IdentityRecord(
        identity_id=identity.identity_id,
        revision=1,
        root_box=identity.secrets.root_box,
        log=identity.log.entries,
        user_keys=identity.secrets.user_keys,
        projects=tuple(sorted(project_entries(state, keys), key=lambda item: item.project_id)),
        contracts=tuple(sorted(contract_entries(state), key=lambda item: item.customer_statement)),
        devices=tuple(
            DeviceEntry(item.device_id, item.device_name, item.roles)
            for item in sorted(devices, key=lambda item: item.device_id)
        ),
    )


def adopt_record(record: IdentityRecord, identity: OwnIdentity, keys: DeviceKeys, state: State, *, at: int) -> bool:
    """Take over what another device wrote; nothing of ours is removed.

    Returns:
        True if something was new.
    """
    news = False
    try:
        news |= identity.adopt_entries(record.log, at=at)
    except CryptoError as error:
        log.warning("identity_log_refused", reason=str(error))
        return False
    with state.transaction():
        for device in record.devices:
            news |= _adopt_device(device, identity, state, at)
        for project in record.projects:
            news |= adopt_project(project, state, keys, at=at)
        for contract in record.contracts:
            news |= adopt_contract(contract, identity, state, at=at)
    return news


def _adopt_device(entry: DeviceEntry, identity: OwnIdentity, state: State, at: int) -> bool:
    from sovereign_crypto.peer_id import peer_id_from_public_key
    from sovereign_node.services.setup import main_role

    known = state.devices.get(entry.public_key)
    revoked = entry.public_key in identity.log.revoked_devices
    if known is not None:
        if revoked and known.revoked_at is None:
            return state.devices.revoke(entry.public_key, at)
        return False
    state.devices.save(
        Device(
            device_id=entry.public_key,
            device_name=entry.name,
            device_type=main_role(entry.roles),
            peer_id=peer_id_from_public_key(entry.public_key),
            added_at=at,
            roles=entry.roles,
            identity=identity.identity_id,
            revoked_at=at if revoked else None,
        )
    )
    return True

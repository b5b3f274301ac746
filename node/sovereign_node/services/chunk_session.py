"""One session of the chunk service: who is asking, what they may do, and doing it in the store."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
import trio

from sovereign_crypto.identity import (
    Capability,
    CertificateError,
    DeviceCertificate,
    IdentityLog,
    check_validity,
    parse_certificate,
)
from sovereign_node.chunkstore import (
    ChunkStoreError,
    HeadConflictError,
    PutOutcome,
    RecoveryConflictError,
    RecoveryRecord,
    StoreFullError,
    TooManyRecordsError,
)
from sovereign_node.services.chunk_grants import ContractGrant, ContractState, Right
from sovereign_protocols.chunk import limits, messages
from sovereign_protocols.chunk.deletion import Deletion, parse_deletion
from sovereign_protocols.chunk.messages import Done, Get, Hello, Message
from sovereign_protocols.chunk.server import Answer, PutItem, Reading
from sovereign_protocols.errors import ErrorCode, RemoteError, RemoteProtocolError
from sovereign_protocols.framing import Payload

if TYPE_CHECKING:
    from sovereign_node.services.provide import ChunkService

Result = TypeVar("Result")

_log = structlog.get_logger()
# Hashing less than this costs less than the way to a thread and back.
_INLINE_BYTES: Final = 32 * 1024
# Sizes that are looked up at once for a get.
_LOOK_AHEAD_IDS: Final = 64
_NEEDED_CAPABILITY: Final = {
    Right.READ: Capability.READ,
    Right.WRITE: Capability.WRITE,
    Right.DELETE: Capability.WRITE,
}


class ChunkSession:
    """Carries out what one client asks; see `sovereign_protocols.chunk.server.Handler`.

    Args:
        service: shared by all sessions.
        peer_id: of the client, as the transport proved it.
        device_pk: 32 bytes, the key behind `peer_id`.
    """

    def __init__(self, service: "ChunkService", peer_id: str, device_pk: bytes) -> None:
        self._service = service
        self._store = service.store
        self._peer_id = peer_id
        self._device_pk = device_pk
        self._certificate: DeviceCertificate | None = None
        self._carry_out: dict[type[Any], Callable[[Any, Payload], Awaitable[list[Answer]]]] = {
            messages.Ping: self._ping,
            messages.LogGet: self._log_get,
            messages.Have: self._have,
            messages.List: self._list,
            messages.Delete: self._delete,
            messages.Undelete: self._undelete,
            messages.HeadSet: self._head_set,
            messages.HeadGet: self._head_get,
            messages.UsageGet: self._usage,
            messages.RecoverySet: self._recovery_set,
            messages.RecoveryGet: self._recovery_get,
        }

    # --- who is asking ---------------------------------------------------------------------------------------

    async def hello(self, hello: Hello) -> int:
        """Check version, clock and certificate; return how much of the identity log is known."""
        now = self._service.clock()
        if hello.version != limits.VERSION:
            raise RemoteError(ErrorCode.UNSUPPORTED_VERSION, {"oldest": limits.VERSION, "newest": limits.VERSION})
        if abs(hello.clock_at - now) > limits.CLOCK_SKEW_S:
            raise RemoteError(ErrorCode.CLOCK_SKEW, {"clock_at": now, "your_clock_at": hello.clock_at})
        if hello.certificate is None:
            return hello.log_length
        try:
            certificate = parse_certificate(hello.certificate, self._service.network_id)
            check_validity(certificate, now)
        except CertificateError as error:
            raise self._refused(error.fault.value) from error
        if certificate.device_pk != self._device_pk:
            raise self._refused("certificate of another device")
        if not hello.log_length:
            raise self._refused("no identity log")
        if not await _in_thread(self._service.authorizer.is_customer, certificate.identity_id):
            raise RemoteError(ErrorCode.DENIED)
        self._certificate = certificate
        log = await _in_thread(self._service.identities.newest, certificate.identity_id)
        if log is None or log.head[0] < hello.log_length - 1:
            return 0
        if hashlib.sha256(log.entries[hello.log_length - 1]).digest() != hello.log_hash:
            return 0
        self._check_in_force(log)
        return hello.log_length

    async def log(self, entries: Sequence[bytes]) -> int:
        """Verify and keep a log that is new here."""
        assert self._certificate is not None
        log = await _in_thread(self._service.identities.learn, self._certificate.identity_id, entries)
        self._check_in_force(log)
        return len(log.entries)

    def _check_in_force(self, log: IdentityLog) -> None:
        assert self._certificate is not None
        try:
            log.check_certificate(self._certificate, self._service.clock())
        except CertificateError as error:
            raise self._refused(error.fault.value) from error

    def _refused(self, reason: str) -> RemoteError:
        _log.warning("device_refused", peer_id=self._peer_id, reason=reason)
        return RemoteError(ErrorCode.IDENTITY)

    async def _grant(self, contract_id: bytes, right: Right) -> ContractGrant:
        return await _in_thread(self._check_grant, contract_id, right)

    def _check_grant(self, contract_id: bytes, right: Right) -> ContractGrant:
        """Check that the device is still in force and may do this; asked anew for every batch.

        Runs in the thread that does the work: on a busy machine the way to a thread and back takes longer than all
        of this.
        """
        certificate = self._certificate
        assert certificate is not None
        log = self._service.identities.newest(certificate.identity_id)
        assert log is not None
        try:
            log.check_certificate(certificate, self._service.clock())
        except CertificateError as error:
            raise RemoteProtocolError(ErrorCode.IDENTITY, error.fault.value) from error
        grant = self._service.authorizer.authorize(certificate.identity_id, self._device_pk, contract_id, right)
        if grant is None or grant.state is ContractState.ENDED:
            raise RemoteError(ErrorCode.NOT_FOUND)
        if not certificate.caps & _NEEDED_CAPABILITY[right]:
            raise RemoteError(ErrorCode.DENIED)
        if right is Right.WRITE and grant.state is not ContractState.ACTIVE:
            raise RemoteError(ErrorCode.CREDIT if grant.state is ContractState.UNPAID else ErrorCode.DENIED)
        if not self._service.has_quota(contract_id, grant.quota_bytes):
            self._service.apply_quota(contract_id, grant.quota_bytes)
        return grant

    async def _newest_log(self) -> IdentityLog:
        assert self._certificate is not None
        identities, identity_id = self._service.identities, self._certificate.identity_id
        log = identities.cached(identity_id) or await _in_thread(identities.newest, identity_id)
        assert log is not None
        return log

    # --- chunks ----------------------------------------------------------------------------------------------

    async def wait_for_room(self, held_bytes: int) -> bool:
        """Wait until the provider's memory has room for more of this stream."""
        return await self._service.admission.wait_for_room(self, held_bytes)

    async def verify(self, items: Sequence[PutItem]) -> list[bool]:
        """Compare SHA-256 with the ids."""
        if sum(len(payload) for _, payload in items) <= _INLINE_BYTES:
            return _matches(items)
        return await trio.to_thread.run_sync(_matches, items)

    async def store(self, items: Sequence[PutItem]) -> list[ErrorCode | None]:
        """Store puts durably, one commit per contract."""
        by_contract: dict[bytes, list[PutItem]] = {}
        for item in items:
            by_contract.setdefault(item[0].contract_id, []).append(item)
        codes: dict[int, ErrorCode | None] = {}
        for contract_id, group in by_contract.items():
            outcomes = await self._store_group(contract_id, group)
            codes.update((put.request_id, code) for (put, _), code in zip(group, outcomes, strict=True))
        self._service.admission.release(self, sum(len(payload) for _, payload in items))
        return [codes[put.request_id] for put, _ in items]

    async def _store_group(self, contract_id: bytes, group: Sequence[PutItem]) -> list[ErrorCode | None]:
        try:
            outcomes = await _in_thread(self._put, contract_id, group)
        except RemoteError as error:
            return [error.code] * len(group)
        except StoreFullError:
            return [ErrorCode.FULL] * len(group)
        except ChunkStoreError as error:
            _log.error("chunk_store_failed", error=str(error))
            return [ErrorCode.STORAGE] * len(group)
        if outcomes is None:
            return [ErrorCode.CREDIT] * len(group)
        return [ErrorCode.QUOTA if outcome is PutOutcome.OVER_QUOTA else None for outcome in outcomes]

    def _put(self, contract_id: bytes, group: Sequence[PutItem]) -> list[PutOutcome] | None:
        """Store and meter chunks of one contract; None if the customer's credit is used up."""
        self._check_grant(contract_id, Right.WRITE)
        meter = self._service.meter
        if not meter.admit(contract_id, sum(len(payload) for _, payload in group)):
            return None
        chunks = [(put.chunk_id, payload) for put, payload in group]
        with meter.change(contract_id) as change:
            outcomes = self._store.put_many(contract_id, chunks, verified=True)
            change.came = [
                (chunk_id, len(payload))
                for (chunk_id, payload), outcome in zip(chunks, outcomes, strict=True)
                if outcome is PutOutcome.STORED
            ]
        return outcomes

    async def pace(self) -> None:
        """Delay a client that asks more often than it may."""
        await self._service.admission.pace(self._peer_id)

    async def read(self, get: Get, chunk_ids: Sequence[bytes], limit_bytes: int) -> Reading:
        """Read chunks of the caller's contract."""
        return await _in_thread(self._read, get, chunk_ids, limit_bytes)

    def _read(self, get: Get, chunk_ids: Sequence[bytes], limit_bytes: int) -> Reading:
        self._check_grant(get.contract_id, Right.READ)
        fitting, next_bytes = self._that_fit(get.contract_id, chunk_ids, limit_bytes)
        found = self._store.get_many(get.contract_id, fitting)
        self._store.add_sent_bytes(get.contract_id, sum(len(data) for _, data in found if data is not None))
        return Reading(found, next_bytes)

    def _that_fit(
        self, contract_id: bytes, chunk_ids: Sequence[bytes], limit_bytes: int
    ) -> tuple[Sequence[bytes], int]:
        """Return the first ids whose chunks fit together, and the size of the next chunk."""
        count = 0
        while count < len(chunk_ids):
            # Most often a few chunks fill the limit, and the sizes of a thousand are not needed for that.
            for size_bytes in self._store.sizes(contract_id, chunk_ids[count : count + _LOOK_AHEAD_IDS]):
                if (size_bytes or 0) > limit_bytes:
                    return chunk_ids[:count], size_bytes or 0
                limit_bytes -= size_bytes or 0
                count += 1
        return chunk_ids, 0

    # --- other requests --------------------------------------------------------------------------------------

    async def request(self, message: Message, payload: Payload) -> list[Answer]:
        """Carry out a request; an error of the store becomes a code."""
        try:
            return await self._carry_out[type(message)](message, payload)
        except StoreFullError as error:
            raise RemoteError(ErrorCode.FULL) from error
        except TooManyRecordsError as error:
            raise RemoteError(ErrorCode.QUOTA) from error
        except ChunkStoreError as error:
            _log.error("chunk_store_failed", error=str(error))
            raise RemoteError(ErrorCode.STORAGE) from error

    async def _ping(self, message: messages.Ping, _payload: Payload) -> list[Answer]:
        return _done(message.request_id)

    async def _log_get(self, message: messages.LogGet, _payload: Payload) -> list[Answer]:
        entries = (await self._newest_log()).entries[message.start :]
        if not entries:
            return [(messages.LogReply(message.request_id, 0), Payload())]
        return [
            (messages.LogReply(message.request_id, len(entries) - position - 1), Payload([entry]))
            for position, entry in enumerate(entries)
        ]

    async def _have(self, message: messages.Have, _payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.READ)
        present = await _in_thread(self._store.has, message.contract_id, message.chunk_ids)
        return [(messages.HaveReply(message.request_id, bytes(present)), Payload())]

    async def _list(self, message: messages.List, _payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.READ)
        ids = await _in_thread(
            lambda: tuple(
                islice(self._store.iter_ids(message.contract_id, after=message.after or b""), limits.MAX_IDS)
            )
        )
        return [(messages.ListReply(message.request_id, ids), Payload())]

    async def _delete(self, message: messages.Delete, payload: Payload) -> list[Answer]:
        grant = await self._grant(message.contract_id, Right.DELETE)
        try:
            deletion = parse_deletion(payload.to_bytes(), network_id=self._service.network_id)
        except RemoteProtocolError as error:
            raise RemoteError(error.code) from error
        if deletion.contract_id != message.contract_id:
            raise RemoteError(ErrorCode.SIGNATURE)
        delete_after_at = await self._check_deletion(deletion, grant)
        count = await _in_thread(self._service.delete_once, deletion, delete_after_at)
        return _done(message.request_id, count)

    async def _check_deletion(self, deletion: Deletion, grant: ContractGrant) -> int:
        """Return when the chunks may go, if the signer may say so."""
        now = self._service.clock()
        log = await self._newest_log()
        if deletion.signer == log.identity_pk:
            earliest = now
        elif deletion.signer == self._device_pk:
            earliest = now + grant.grace_s
        else:
            raise RemoteError(ErrorCode.SIGNATURE)
        age_s = now - deletion.signed_at
        if not -limits.CLOCK_SKEW_S <= age_s <= limits.DELETE_VALIDITY_S + limits.CLOCK_SKEW_S:
            raise RemoteError(ErrorCode.EXPIRED, {"clock_at": now})
        if deletion.delete_after_at and deletion.delete_after_at < earliest:
            raise RemoteError(ErrorCode.GRACE, {"earliest": earliest})
        return deletion.delete_after_at or earliest

    async def _undelete(self, message: messages.Undelete, _payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.WRITE)
        count = await _in_thread(self._service.undelete, message.contract_id, message.chunk_ids)
        return _done(message.request_id, count)

    async def _head_set(self, message: messages.HeadSet, payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.WRITE)
        head = payload.to_bytes()
        try:
            await _in_thread(
                self._store.set_head, message.contract_id, message.locator, self._device_pk, head,
                message.previous_hash,
            )  # fmt: skip
        except HeadConflictError as error:
            data = {} if error.current_hash is None else {"current": error.current_hash}
            raise RemoteError(ErrorCode.CONFLICT, data) from error
        return _done(message.request_id)

    async def _head_get(self, message: messages.HeadGet, _payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.READ)
        heads = await _in_thread(self._store.heads, message.contract_id, message.locator)
        answers: list[Answer] = [
            (messages.Head(message.request_id, device_pk), Payload([head]))
            for device_pk, head in heads[: limits.MAX_HEADS]
        ]
        return answers + _done(message.request_id, len(answers))

    async def _usage(self, message: messages.UsageGet, _payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.READ)
        usage = await _in_thread(self._store.usage, message.contract_id)
        reply = messages.UsageReply(
            message.request_id, usage.quota_bytes, usage.chunks, usage.size_bytes, usage.marked_chunks,
            usage.marked_bytes, usage.received_bytes, usage.sent_bytes,
        )  # fmt: skip
        return [(reply, Payload())]

    async def _recovery_set(self, message: messages.RecoverySet, payload: Payload) -> list[Answer]:
        await self._grant(message.contract_id, Right.WRITE)
        record = RecoveryRecord(
            message.contract_id, message.locator, message.revision, message.announce_key, payload.to_bytes()
        )
        try:
            await _in_thread(self._store.set_recovery, record)
        except RecoveryConflictError as error:
            raise RemoteError(ErrorCode.CONFLICT, {"revision": error.revision}) from error
        self._service.on_recovery_set(message.announce_key)
        return _done(message.request_id)

    async def _recovery_get(self, message: messages.RecoveryGet, _payload: Payload) -> list[Answer]:
        if self._certificate is None and not self._service.admission.admit_stranger(self._peer_id):
            raise RemoteError(ErrorCode.RATE)
        records = await _in_thread(self._store.recovery, message.locator)
        answers: list[Answer] = [
            (messages.Recovery(message.request_id, record.revision, record.announce_key), Payload([record.sealed]))
            for record in records
        ]
        return answers + _done(message.request_id, len(answers))


def _done(request_id: int, count: int = 0) -> list[Answer]:
    return [(Done(request_id, count), Payload())]


def _matches(items: Sequence[PutItem]) -> list[bool]:
    return [payload.sha256() == put.chunk_id for put, payload in items]


async def _in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    return await trio.to_thread.run_sync(function, *arguments)

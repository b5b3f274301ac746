"""Prove a peer's identity in the money protocols: its certificate, and the newest identity log known here."""

from __future__ import annotations

from collections.abc import Callable

import trio

from sovereign_crypto.certificate import verify_certificate
from sovereign_crypto.identity import IdentityLog
from sovereign_node.services.chunk_identities import IdentityDirectory
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_protocols.requests.shell import Introduction, PeerCheck


def introduction_of(
    identity: OwnIdentity, clock: Callable[[], int], check: PeerCheck | None = None
) -> Introduction:
    """Say who this device is, with the certificate of this moment.

    Args:
        identity: own.
        clock: wall time.
        check: proves the identities of others.
    """
    return Introduction(identity.certificate.raw, clock, identity.network_id, check)


def known_identity_check(identity: OwnIdentity, directory: IdentityDirectory) -> PeerCheck:
    """Make a check that also refuses devices that their identity has revoked, as far as this node knows its log.

    Args:
        identity: own; its log is always the newest.
        directory: logs that customers showed to the chunk service.
    """

    async def check(certificate: bytes, device_key: bytes, now: int) -> bytes:
        found = verify_certificate(certificate, now, device_pk=device_key, network_id=identity.network_id)
        log: IdentityLog | None
        if found.identity_id == identity.identity_id:
            log = identity.log
        else:
            log = await trio.to_thread.run_sync(directory.newest, found.identity_id)
        # A device that is not in the log may be newer than the log; its certificate proves itself.
        if log is not None and (log.is_active(device_key) or device_key in log.revoked_devices):
            log.check_certificate(found, now)
        return found.identity_id

    return check

"""A node that runs for years certifies its device anew in time, if it was told where the passphrase is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.node import Node
from sovereign_node.services.own_identity import OwnIdentity

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

#: A month before `doctor` warns, so that only what cannot renew itself is warned of.
RENEW_BEFORE_S: Final = 60 * 86_400
CHECK_S: Final = 86_400.0


class CertificateKeeper:
    """Renews the certificate of this device when it is due.

    Args:
        identity: own.
        roles: what the device is certified for.
        clock: wall time.
        read_passphrase: gives the passphrase of the identity; called each time, and forgotten after. Blocks.
        on_renewed: told when others should learn of the new certificate.
    """

    def __init__(
        self,
        identity: OwnIdentity,
        roles: Sequence[str],
        clock: Clock,
        *,
        read_passphrase: Callable[[], str],
        on_renewed: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._roles = roles
        self._clock = clock
        self._read_passphrase = read_passphrase
        self._on_renewed = on_renewed

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        task_status.started()
        while True:
            await self.run_once()
            await trio.sleep(CHECK_S)

    async def run_once(self) -> bool:
        """Renew if it is due; returns whether it was done."""
        if self._identity.certificate.not_after - self._clock() >= RENEW_BEFORE_S:
            return False
        try:
            await trio.to_thread.run_sync(self._renew)
        except NodeError as error:
            log.warning("certificate_not_renewed", reason=error.message)
            return False
        log.info("certificate_renewed", until_at=self._identity.certificate.not_after)
        self._on_renewed()
        return True

    def _renew(self) -> None:
        root = self._identity.unlock_root(self._read_passphrase())
        self._identity.renew_certificate(root, self._roles, at=self._clock())


def certificate_keeper(node: Node, read_passphrase: Callable[[], str]) -> CertificateKeeper:
    """Make what renews the certificate of a node's device."""

    def tell_others() -> None:
        node.recovery.publish_soon()
        node.kademlia.announce_soon()

    return CertificateKeeper(
        node.identity, node.config.roles, node.clock, read_passphrase=read_passphrase, on_renewed=tell_others
    )

"""How much this node may send and receive now: settings, schedule, metered networks, and what a command said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
import trio

from sovereign_node.clock import local_time
from sovereign_node.config import NetConfig
from sovereign_node.net.metered import is_metered
from sovereign_node.rates import UNLIMITED, Period, Rates, parse_peer_limit, parse_period
from sovereign_node.store import State

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

META_KEY = "limits"
CHECK_S = 5.0
# Asking the system costs more than looking at the clock.
METERED_CHECK_S = 30.0


@dataclass(frozen=True)
class InForce:
    """The limits that hold, and why.

    Args:
        rates: of all connections together.
        reason: "settings", "schedule" or "command".
        is_metered: whether the lower limits of a metered network hold as well.
    """

    rates: Rates
    reason: str
    is_metered: bool


def limits_at(
    net: NetConfig, periods: Sequence[Period], moment: datetime, *, is_metered: bool, commanded: Rates | None = None
) -> InForce:
    """Choose what holds: a command, else the first period that fits, else the settings; less where it is metered.

    Args:
        net: settings.
        periods: of the schedule, in its order.
        moment: local time.
        is_metered: whether the network is paid for by volume.
        commanded: what a command said, None if nothing.
    """
    rates, reason = Rates(net.upload_limit_bytes_per_s, net.download_limit_bytes_per_s), "settings"
    period = next((item for item in periods if item.holds_at(moment)), None)
    if commanded is not None:
        rates, reason = commanded, "command"
    elif period is not None:
        rates, reason = _during(period, rates), "schedule"
    if is_metered:
        rates = Rates(
            _lower(rates.upload_bytes_per_s, net.metered_upload_limit_bytes_per_s),
            _lower(rates.download_bytes_per_s, net.metered_download_limit_bytes_per_s),
        )
    return InForce(rates, reason, is_metered)


def _during(period: Period, rates: Rates) -> Rates:
    if period.upload_bytes_per_s is not None:
        rates = replace(rates, upload_bytes_per_s=period.upload_bytes_per_s)
    if period.download_bytes_per_s is not None:
        rates = replace(rates, download_bytes_per_s=period.download_bytes_per_s)
    return rates


def _lower(one: int, other: int) -> int:
    """Return the stricter of two limits, of which 0 is none."""
    return min(one, other) if one and other else one or other


@dataclass(frozen=True)
class Commanded:
    """What commands said; it outlives restarts.

    Args:
        rates: of all connections together, None for what the settings say.
        peers: of single peers besides, in the place of the settings'.
        metered: "yes" or "no" in the place of the setting, None for it.
    """

    rates: Rates | None
    peers: Mapping[str, Rates]
    metered: str | None

    def to_json(self) -> str:
        """Return the text that is stored."""
        return json.dumps(
            {
                "rates": _pair(self.rates) if self.rates else None,
                "peers": {peer_id: _pair(rates) for peer_id, rates in self.peers.items()},
                "metered": self.metered,
            }
        )

    @classmethod
    def from_json(cls, text: str | None) -> Commanded:
        """Read what was stored; None was never."""
        found = json.loads(text) if text else {}
        rates = found.get("rates")
        peers = {peer_id: Rates(*pair) for peer_id, pair in found.get("peers", {}).items()}
        return cls(Rates(*rates) if rates else None, peers, found.get("metered"))


class Traffic:
    """Brings the limits that hold to the network, and tells background work when to wait.

    Args:
        set_rates: hands limits to the network.
        net: settings.
        state: remembers what commands said.
        clock: now, in the zone of this machine.
        ask_metered: decides whether the network is metered, given the rule; blocks.
        on_resumed: called when background work may go on.
    """

    def __init__(
        self,
        set_rates: Callable[[Rates, Mapping[str, Rates]], None],
        net: NetConfig,
        state: State,
        *,
        clock: Callable[[], datetime] = local_time,
        ask_metered: Callable[[str, Sequence[str]], bool] = is_metered,
        on_resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self._set_rates = set_rates
        self._net = net
        self._state = state
        self._clock = clock
        self._ask_metered = ask_metered
        self._on_resumed = on_resumed
        self._periods = [parse_period(text) for text in net.limit_schedule]
        self._commanded = Commanded(None, {}, None)
        self._is_metered = False
        self._asked_at = float("-inf")
        self._in_force: tuple[InForce, dict[str, Rates]] | None = None

    @property
    def is_paused(self) -> bool:
        """Whether background work should wait for a network that is not metered."""
        return self._is_metered and self._net.metered_pause

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow clock and network until cancelled."""
        self._commanded = Commanded.from_json(await trio.to_thread.run_sync(self._state.meta.get, META_KEY))
        await self._apply()
        task_status.started()
        while True:
            await trio.sleep(CHECK_S)
            await self._apply()

    def check_soon(self) -> None:
        """Ask about the network anew at the next look, since it may be another one."""
        self._asked_at = float("-inf")

    @property
    def rates(self) -> Rates:
        """The limits that were last set for all connections together: by a command, else by the settings."""
        usual = Rates(self._net.upload_limit_bytes_per_s, self._net.download_limit_bytes_per_s)
        return self._commanded.rates or usual

    def rates_of(self, peer_id: str) -> Rates:
        """Return the limits of one peer."""
        return self._peers().get(peer_id, UNLIMITED)

    async def command(
        self,
        *,
        rates: Rates | None = None,
        peers: Mapping[str, Rates] | None = None,
        metered: str | None = None,
    ) -> None:
        """Set limits until `clear`, also over restarts; what is None stays as it is.

        Args:
            rates: of all connections together.
            peers: of single peers, besides those of former commands.
            metered: "yes", "no", or "auto" for what the settings say.
        """
        before = self._commanded
        await self._save(
            Commanded(
                before.rates if rates is None else rates,
                {**before.peers, **(peers or {})},
                before.metered if metered is None else None if metered == "auto" else metered,
            )
        )

    async def clear(self) -> None:
        """Go back to the settings."""
        await self._save(Commanded(None, {}, None))

    def document(self) -> dict[str, Any]:
        """Return the limits in force, as the local API shows them."""
        assert self._in_force is not None
        in_force, peers = self._in_force
        return {
            "upload_bytes_per_s": in_force.rates.upload_bytes_per_s,
            "download_bytes_per_s": in_force.rates.download_bytes_per_s,
            "reason": in_force.reason,
            "metered": in_force.is_metered,
            "background_paused": self.is_paused,
            "schedule": list(self._net.limit_schedule),
            "peers": [
                {
                    "peer_id": peer_id,
                    "upload_bytes_per_s": rates.upload_bytes_per_s,
                    "download_bytes_per_s": rates.download_bytes_per_s,
                }
                for peer_id, rates in peers.items()
            ],
        }

    async def _save(self, commanded: Commanded) -> None:
        await trio.to_thread.run_sync(self._state.meta.set, META_KEY, commanded.to_json())
        self._commanded = commanded
        self.check_soon()
        await self._apply()

    async def _apply(self) -> None:
        await self._look()
        in_force = limits_at(
            self._net,
            self._periods,
            self._clock(),
            is_metered=self._is_metered,
            commanded=self._commanded.rates,
        )
        peers = self._peers()
        if (in_force, peers) != self._in_force:
            log.info("limits_changed", reason=in_force.reason, metered=in_force.is_metered)
            self._in_force = in_force, peers
            self._set_rates(in_force.rates, peers)

    def _peers(self) -> dict[str, Rates]:
        usual = dict(parse_peer_limit(text) for text in self._net.peer_limits)
        # A command takes a limit of the settings away by two zeros.
        return usual | dict(self._commanded.peers)

    async def _look(self) -> None:
        now = trio.current_time()
        if now - self._asked_at >= METERED_CHECK_S:
            self._asked_at = now
            rule = self._commanded.metered or self._net.metered
            was_paused = self.is_paused
            self._is_metered = await trio.to_thread.run_sync(self._ask_metered, rule, self._net.metered_interfaces)
            if was_paused and not self.is_paused:
                self._on_resumed()


def _pair(rates: Rates) -> list[int]:
    return [rates.upload_bytes_per_s, rates.download_bytes_per_s]

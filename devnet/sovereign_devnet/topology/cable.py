"""Cables with faults: delay, loss, and a plug that can be pulled, between two namespaces.

Linux has `tc netem` for this, but only where the kernel was built with it. Here every packet passes through this
process, from one TAP interface to the other, which works on any kernel and can be changed between two packets.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from dataclasses import dataclass

from sovereign_devnet.topology.namespace import Namespace

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_FRAME_BYTES = 65536
# Packets that are under way in one direction; a real line drops what does not fit, too.
_MAX_UNDER_WAY = 4096
_IDLE_S = 0.5


@dataclass(frozen=True)
class Faults:
    """What a cable does to packets.

    Attributes:
        delay_s: time that a packet takes, each way.
        loss: share of packets that are lost, 0 to 1, each way.
        is_cut: whether nothing passes.
    """

    delay_s: float = 0.0
    loss: float = 0.0
    is_cut: bool = False


class Cable:
    """A link between two namespaces; runs in a thread of its own until closed.

    Args:
        one: a namespace and the name that the interface gets there.
        other: the other end.
        seed: of the losses.
    """

    def __init__(self, one: tuple[Namespace, str], other: tuple[Namespace, str], *, seed: int = 1) -> None:
        self._ends = (_open_tap(*one), _open_tap(*other))
        self._faults = Faults()
        self._random = random.Random(seed)  # noqa: S311 - losses, not keys
        self._stopping = False
        # Due time, serial number, where to, and the packet; packets with the same delay keep their order.
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._serial = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._carry, name="cable", daemon=True)
        self._thread.start()

    def set(self, *, delay_s: float = 0.0, loss: float = 0.0, is_cut: bool = False) -> None:
        """Change the faults from the next packet on; without arguments the cable is good again."""
        self._faults = Faults(delay_s, loss, is_cut)

    def close(self) -> None:
        """Stop carrying, and remove both interfaces."""
        self._stopping = True
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        targets = {self._ends[0]: self._ends[1], self._ends[1]: self._ends[0]}
        while not self._stopping:
            now = time.monotonic()
            wait_s = max(0.0, min(_IDLE_S, self._under_way[0][0] - now)) if self._under_way else _IDLE_S
            readable, _, _ = select.select(self._ends, [], [], wait_s)
            for source in readable:
                self._take(targets[source], source)
            self._deliver(time.monotonic())

    def _take(self, target: int, source: int) -> None:
        """Read what is there now, and lose, delay or hand on each packet."""
        while True:
            try:
                packet = os.read(source, _FRAME_BYTES)
            except BlockingIOError:
                return
            faults = self._faults
            if faults.is_cut or len(self._under_way) >= _MAX_UNDER_WAY or self._random.random() < faults.loss:
                self.lost += 1
            elif faults.delay_s:
                self._serial += 1
                due = time.monotonic() + faults.delay_s
                heapq.heappush(self._under_way, (due, self._serial, target, packet))
            else:
                _write(target, packet)

    def _deliver(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._under_way)
            _write(target, packet)


def _open_tap(namespace: Namespace, name: str) -> int:
    """Make a TAP interface inside a namespace; the descriptor is its other end."""

    def make() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    descriptor = namespace.inside(make)
    namespace.ip("link", "set", name, "up")
    return descriptor


def _write(target: int, packet: bytes) -> None:
    try:
        os.write(target, packet)
    except OSError:
        # The interface is down or its queue is full; a line loses packets then.
        return

"""Noticing peers that are gone without a word.

libp2p 0.8.1 pings over Yamux but ignores a missing answer, so a frozen peer or a vanished link keeps its readers
waiting for ever. Here every silent connection is asked each ten seconds, and closed after two missed answers.
"""

import secrets
from collections.abc import Callable

import trio
from libp2p.exceptions import BaseLibp2pError

from sovereign_node.net import negotiate
from sovereign_node.net.connection import Connection
from sovereign_node.net.errors import NetError
from sovereign_node.net.streams import receive_exactly
from sovereign_node.net.yamux_connection import YamuxConnection

PROTOCOL_ID = "/ipfs/ping/1.0.0"
_PAYLOAD_BYTES = 32
_MISSES_ALLOWED = 2
# A stream that we closed and the peer did not finish holds one of the peer's places for at most this long.
_LINGER_S = 30.0


async def ping(connection: Connection, *, timeout_s: float) -> float | None:
    """Measure one round trip: a Yamux ping, or libp2p's ping protocol on the stock stack.

    Returns:
        Seconds, or None if there was no right answer in time.
    """
    try:
        with trio.fail_after(timeout_s):
            if isinstance(connection.muxed_conn, YamuxConnection):
                return await connection.muxed_conn.ping()
            return await _echo(connection)
    except (NetError, BaseLibp2pError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
        return None


async def check(connection: Connection, *, timeout_s: float) -> None:
    """Ask once, and close the connection if neither an answer nor anything else comes in time."""
    received = connection.pipe.bytes_received
    if await ping(connection, timeout_s=timeout_s) is None and connection.pipe.bytes_received == received:
        await connection.close()


async def _echo(connection: Connection) -> float | None:
    stream = await connection.open_stream()
    try:
        await negotiate.propose(stream, PROTOCOL_ID)
        payload = secrets.token_bytes(_PAYLOAD_BYTES)
        started = trio.current_time()
        await stream.send_all(payload)
        answer = await receive_exactly(stream, _PAYLOAD_BYTES)
        return trio.current_time() - started if answer == payload else None
    finally:
        with trio.CancelScope(shield=True):
            await stream.reset()


async def watch(
    connection: Connection,
    *,
    interval_s: float,
    timeout_s: float,
    is_redundant: Callable[[], bool],
    on_check: Callable[[Connection], None] = lambda _connection: None,
) -> None:
    """Return when the connection is closed; close it when the peer is gone, or when it is idle and redundant.

    Args:
        connection: what to watch.
        interval_s: silence after which the peer is asked.
        timeout_s: how long its answer may take.
        is_redundant: whether another connection to the same peer is the one to use.
        on_check: called at each look.
    """
    misses = 0
    received = -1
    while misses < _MISSES_ALLOWED:
        with trio.move_on_after(interval_s) as silence:
            connection.silence = silence
            await connection.closed.wait()
        if not silence.cancelled_caught:
            return
        on_check(connection)
        connection.sweep(_LINGER_S)
        if is_redundant() and connection.is_idle:
            break
        if connection.pipe.bytes_received != received:
            received = connection.pipe.bytes_received
            misses = 0
            if connection.rtt_s is not None:
                continue
        rtt_s = await ping(connection, timeout_s=timeout_s)
        received = connection.pipe.bytes_received
        if rtt_s is None:
            misses += 1
        else:
            misses, connection.rtt_s = 0, rtt_s
    await connection.close()

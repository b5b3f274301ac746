import hashlib
import os
import secrets

import pytest
import trio
import trio.testing

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.nats_server import run_nats_server
from sovereign_node.clock import wall_clock
from sovereign_node.net.nats import relay as relay_module
from sovereign_node.net.nats.errors import PeerNotOnRelayError, RelayUnreachableError
from sovereign_node.net.nats.relay import Relay
from sovereign_node.net.nats.stream import MAX_TUNNEL_WINDOW_BYTES, WindowBudget
from sovereign_protocols.relay import subjects, tunnel_frames
from sovereign_protocols.relay.endpoint import Endpoint
from sovereign_protocols.relay.tunnel import INITIAL_WINDOW_BYTES
from sovereign_protocols.relay.tunnel_frames import CloseCode, FrameType, Opening

pytestmark = pytest.mark.processes


def _today() -> int:
    return subjects.day_of(wall_clock())


async def _open_pair(nats_server, start_side) -> tuple:
    ours, theirs = await start_side(nats_server.port), await start_side(nats_server.port)
    return await _dial(ours, theirs)


async def _dial(ours, theirs) -> tuple:
    with trio.fail_after(5):
        near = await ours.relay.dial(theirs.key.public)
        return near, await theirs.accepted.receive()


async def _read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    while piece := await stream.receive_some():
        received += piece
    return received


async def test_a_tunnel_is_a_half_closeable_stream(nats_server, start_side):
    ours, theirs = await start_side(nats_server.port), await start_side(nats_server.port)

    async def make() -> tuple:
        return await _dial(ours, theirs)

    # A clogged pair takes megabytes, because a reader that keeps up gets a larger window; so none is made here.
    with trio.fail_after(4):
        await trio.testing.check_half_closeable_stream(make, None)
    assert ours.relay.tunnels == theirs.relay.tunnels == 0


@pytest.mark.parametrize("size", [1, 65_527, 65_528, 1_000_003, 8 << 20])
async def test_both_directions_carry_everything_at_once(nats_server, start_side, size):
    near, far = await _open_pair(nats_server, start_side)
    data = {near: os.urandom(size), far: os.urandom(size)}
    received = {}

    async def send(stream) -> None:
        await stream.send_all(bytearray(data[stream]))
        await stream.send_eof()

    async def receive(stream) -> None:
        digest = hashlib.sha256()
        while piece := await stream.receive_some(100_000):
            digest.update(piece)
        received[stream] = digest.digest()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for stream in (near, far):
                nursery.start_soon(send, stream)
                nursery.start_soon(receive, stream)
    assert received[near] == hashlib.sha256(data[far]).digest()
    assert received[far] == hashlib.sha256(data[near]).digest()


async def test_what_was_sent_before_a_close_still_arrives(nats_server, start_side):
    near, far = await _open_pair(nats_server, start_side)
    await near.send_all(b"last words")
    await near.aclose()
    with trio.fail_after(5):
        assert await far.receive_some() == b"last words"
        assert await far.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"x")


async def test_a_sender_waits_for_a_reader_who_does_not_read(nats_server, start_side):
    near, far = await _open_pair(nats_server, start_side)
    sent = 0
    with trio.move_on_after(0.5):
        while True:
            await near.send_all(bytes(16_384))
            sent += 16_384
    assert INITIAL_WINDOW_BYTES - 16_384 <= sent <= INITIAL_WINDOW_BYTES
    received = 0
    with trio.fail_after(5):
        while received < sent:
            received += len(await far.receive_some())


async def test_single_bytes_do_not_cost_an_object_each(nats_server, start_side):
    near, far = await _open_pair(nats_server, start_side)
    for _ in range(3000):
        await near.send_all(b"x")
    await near.send_eof()
    received = b""
    with trio.fail_after(10):
        while far._tunnel.buffered_bytes < 3000:
            await far._connection.flush()
        assert len(far._pieces) == 1
        while piece := await far.receive_some(2000):
            received += piece
    assert received == b"x" * 3000


async def test_a_reader_that_keeps_up_gets_a_larger_window_within_the_budget(nats_server, start_side):
    near, far = await _open_pair(nats_server, start_side)

    async def read() -> None:
        while await far.receive_some():
            pass

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(64):
                await near.send_all(bytes(1 << 20))
            await near.send_eof()
    assert INITIAL_WINDOW_BYTES < far._tunnel.window_bytes <= MAX_TUNNEL_WINDOW_BYTES
    await far.aclose()


def test_a_budget_gives_what_it_has_and_takes_it_back():
    budget = WindowBudget(100)
    assert budget.take(100)
    assert not budget.take(1)
    budget.give_back(60)
    assert not budget.take(61)
    assert budget.take(60)


# Dialing.


async def test_a_peer_that_does_not_wait_is_known_at_once(nats_server, start_side):
    ours = await start_side(nats_server.port)
    with trio.fail_after(2), pytest.raises(PeerNotOnRelayError, match="does not wait"):
        await ours.relay.dial(SigningKey.generate().public)
    assert ours.relay.tunnels == 0


async def test_a_dead_relay_is_known_at_once(nursery):
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    relay = Relay([Endpoint("127.0.0.1", port)], bytes(32))
    nursery.start_soon(relay.run, None)
    with trio.fail_after(2), pytest.raises(RelayUnreachableError):
        await relay.dial(SigningKey.generate().public)
    assert not relay.is_listening


async def test_a_relay_that_hangs_is_left_at_the_deadline(nursery, fake_server):
    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)

    async with fake_server(silent) as port:
        relay = Relay([Endpoint("127.0.0.1", port)], bytes(32))
        nursery.start_soon(relay.run, None)
        with trio.fail_after(2), pytest.raises(RelayUnreachableError, match="no answer in time"):
            await relay.dial(SigningKey.generate().public, timeout_s=0.1)
        nursery.cancel_scope.cancel()


async def test_a_secret_keeps_those_without_it_away(nats_server, start_side):
    member, other = await start_side(nats_server.port, secret=b"ours"), await start_side(nats_server.port)
    friend = await start_side(nats_server.port, secret=b"ours")
    with pytest.raises(PeerNotOnRelayError):
        await other.relay.dial(member.key.public)
    await _dial(friend, member)


@pytest.mark.parametrize("skew_s", [-80_000, 80_000])
async def test_clocks_hours_apart_still_meet(nats_server, start_side, skew_s):
    ours = await start_side(nats_server.port, clock=lambda: 1_800_000_000 + skew_s)
    theirs = await start_side(nats_server.port, clock=lambda: 1_800_000_000)
    await _dial(ours, theirs)


async def test_subjects_follow_the_day(nats_server, start_side, monkeypatch):
    monkeypatch.setattr(relay_module, "_TIMER_INTERVAL_S", 0.02)
    monkeypatch.setattr(relay_module, "_DAY_CHECK_S", 0.0)
    now = [1_800_000_000]
    theirs = await start_side(nats_server.port, clock=lambda: now[0])
    now[0] += 10 * subjects.SECONDS_PER_DAY
    ours = await start_side(nats_server.port, clock=lambda: now[0])
    with trio.fail_after(5):
        while True:
            try:
                await _dial(ours, theirs)
                break
            except PeerNotOnRelayError:
                continue


async def test_a_listener_without_room_says_so(nats_server, start_side, monkeypatch):
    monkeypatch.setattr(relay_module, "MAX_INBOUND_TUNNELS", 1)
    ours, theirs = await start_side(nats_server.port), await start_side(nats_server.port)
    near, _ = await _dial(ours, theirs)
    with pytest.raises(PeerNotOnRelayError, match="busy"):
        await ours.relay.dial(theirs.key.public)
    await near.aclose()
    with trio.fail_after(5):
        while theirs.relay.tunnels:
            await near._connection.flush()
        await _dial(ours, theirs)


async def test_requests_are_read_at_a_bounded_rate(nats_server, start_side, connect):
    theirs = await start_side(nats_server.port)
    stranger = await connect(nats_server)
    rendezvous = subjects.rendezvous_subject(theirs.key.public, _today())
    for _ in range(2000):
        request = Opening(secrets.token_bytes(16), INITIAL_WINDOW_BYTES, 65_536)
        await stranger.publish(rendezvous, tunnel_frames.encode_opening(FrameType.REQUEST, request))
    for junk in (b"", b"junk", bytes(40), tunnel_frames.encode_head(FrameType.PING, 0)):
        await stranger.publish(rendezvous, junk)
    await stranger.flush()
    assert theirs.relay.tunnels <= relay_module.MAX_INBOUND_TUNNELS
    assert theirs.relay.is_listening


async def test_a_relay_that_stops_breaks_its_tunnels_and_a_new_dial_works(tmp_path, start_side):
    async with run_nats_server(tmp_path) as server:
        ours, theirs = await start_side(server.port), await start_side(server.port)
        near, far = await _dial(ours, theirs)
        await server.kill()
        with trio.fail_after(5):
            for stream in (near, far):
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
                with pytest.raises(trio.BrokenResourceError):
                    await stream.send_all(b"x")
                await stream.aclose()
        assert ours.relay.tunnels == theirs.relay.tunnels == 0
        port = server.port
    async with run_nats_server(tmp_path, port=port):
        with trio.fail_after(10):
            await theirs.relay.wait_listening()
            near, far = None, None
            while near is None:
                try:
                    near, far = await _dial(ours, theirs)
                except (PeerNotOnRelayError, RelayUnreachableError):
                    continue
            await near.send_all(b"again")
            assert await far.receive_some() == b"again"


async def test_a_peer_that_stops_says_goodbye(nats_server, start_side):
    theirs = await start_side(nats_server.port)
    with trio.fail_after(5):
        async with trio.open_nursery() as short:
            relay = Relay([Endpoint("127.0.0.1", nats_server.port)], SigningKey.generate().public)
            short.start_soon(relay.run, None)
            near = await relay.dial(theirs.key.public)
            far = await theirs.accepted.receive()
            await near.send_all(b"last words")
            short.cancel_scope.cancel()
        assert await _read_all(far) == b"last words"
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()


async def test_a_peer_that_left_is_noticed_by_a_ping(nats_server, start_side, monkeypatch):
    monkeypatch.setattr("sovereign_protocols.relay.tunnel.PING_AFTER_S", 0.05)
    monkeypatch.setattr(relay_module, "_TIMER_INTERVAL_S", 0.02)
    near, far = await _open_pair(nats_server, start_side)
    # It forgets the tunnel without a word, as a process that is killed.
    far._connection.unsubscribe(next(iter(far._connection._subscriptions.keys() - {1, 2, 3})))
    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError, match="left the relay"):
        await near.receive_some()


# Peers that break the rules, and relays that do.


class _RawPeer:
    """A peer that speaks frames by hand."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.token = secrets.token_bytes(16)
        self.inbox = subjects.inbox_subject(self.token)
        self._send, self.frames = trio.open_memory_channel(10_000)
        connection.subscribe(self.inbox, lambda message: self._send.send_nowait(message.payload))
        self.target = ""

    async def open(self, public_key: bytes) -> None:
        request = Opening(self.token, INITIAL_WINDOW_BYTES, 65_536)
        subject = subjects.rendezvous_subject(public_key, _today())
        await self.connection.publish(
            subject, tunnel_frames.encode_opening(FrameType.REQUEST, request), reply=self.inbox
        )
        with trio.fail_after(5):
            frame = await self.frames.receive()
        assert tunnel_frames.decode_head(frame) == (FrameType.ACCEPT, 0)
        self.target = subjects.inbox_subject(tunnel_frames.decode_opening(frame).inbox)

    async def send(self, kind: FrameType, sequence: int, body: bytes = b"") -> None:
        await self.connection.publish(self.target, tunnel_frames.encode_head(kind, sequence) + body)

    async def next_close(self) -> CloseCode:
        with trio.fail_after(5):
            while True:
                frame = await self.frames.receive()
                if tunnel_frames.decode_head(frame)[0] is FrameType.CLOSE:
                    return tunnel_frames.decode_close(frame)


async def test_a_flooding_peer_is_cut_at_its_credit(nats_server, start_side, connect):
    theirs = await start_side(nats_server.port)
    peer = _RawPeer(await connect(nats_server))
    await peer.open(theirs.key.public)
    stream = await theirs.accepted.receive()
    for sequence in range(1, 200):
        await peer.send(FrameType.DATA, sequence, bytes(60_000))
    assert await peer.next_close() is CloseCode.CREDIT
    with pytest.raises(trio.BrokenResourceError, match="without credit"):
        await stream.receive_some()
    assert not stream._pieces
    assert theirs.relay.tunnels == 0
    # The others go on.
    ours = await start_side(nats_server.port)
    await _dial(ours, theirs)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(FrameType.DATA, 1, b"a"), (FrameType.DATA, 3, b"c")], CloseCode.SEQUENCE),
        ([(FrameType.DATA, 1, b"a"), (FrameType.DATA, 1, b"a")], CloseCode.SEQUENCE),
        ([(FrameType.DATA, 2, b"b"), (FrameType.DATA, 1, b"a")], CloseCode.SEQUENCE),
        ([(FrameType.PING, n, b"") for n in range(1, 30)], CloseCode.CREDIT),
        ([(FrameType.EOF, 1, b""), (FrameType.DATA, 2, b"x")], CloseCode.MALFORMED),
    ],
    ids=["lost", "doubled", "moved", "pings", "after the end"],
)
async def test_a_broken_rule_closes_the_tunnel(nats_server, start_side, connect, frames, code):
    theirs = await start_side(nats_server.port)
    peer = _RawPeer(await connect(nats_server))
    await peer.open(theirs.key.public)
    for frame in frames:
        await peer.send(*frame)
    assert await peer.next_close() is code
    stream = await theirs.accepted.receive()
    with pytest.raises(trio.BrokenResourceError):
        await _read_all(stream)


async def test_a_repeated_request_opens_one_tunnel(nats_server, start_side, connect):
    theirs = await start_side(nats_server.port)
    connection = await connect(nats_server)
    peer = _RawPeer(connection)
    await peer.open(theirs.key.public)
    request = tunnel_frames.encode_opening(FrameType.REQUEST, Opening(peer.token, INITIAL_WINDOW_BYTES, 65_536))
    for _ in range(3):
        await connection.publish(subjects.rendezvous_subject(theirs.key.public, _today()), request)
    await connection.flush()
    await (await theirs.accepted.receive())._connection.flush()
    assert theirs.relay.tunnels == 1


async def test_a_meddling_client_can_end_a_tunnel_and_nothing_more(nats_server, start_side, connect):
    """Repeats every frame that crosses the server, as a broken relay would."""
    meddler = await connect(nats_server)
    seen = []

    def repeat(message) -> None:
        if message.subject.startswith("svrn.i.") and message.payload[:1] == bytes([FrameType.DATA]):
            seen.append(message)
            meddler.publish_nowait(message.subject, message.payload)

    meddler.subscribe(">", repeat)
    await meddler.flush()
    near, far = await _open_pair(nats_server, start_side)
    await near.send_all(b"once")
    with trio.fail_after(5):
        with pytest.raises(trio.BrokenResourceError):
            await _read_all(far)
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
    assert seen

"""The answering side: each request with its answer or its refusal."""

import hashlib

import pytest

from sovereign_protocols.kad.core import (
    MAX_TRACKED_SENDERS,
    REQUEST_BURST,
    REQUESTS_PER_S,
    WRITE_BURST,
    KadServer,
    RateLimit,
)
from sovereign_protocols.kad.errors import InvalidRecordError, KadMessageError, RequestRefusedError
from sovereign_protocols.kad.keys import kad_id, provider_wire_key, record_wire_key
from sovereign_protocols.kad.messages import Contact, Message, MessageType, Record
from sovereign_protocols.kad.records import ProviderStore, RecordStore
from sovereign_protocols.kad.table import RoutingTable

PREFIX = bytes.fromhex("002408011220")
OWN = PREFIX + bytes(32)
NOW = 1_800_000_000
KEY = bytes(range(32))
RECORD_KEY, PROVIDER_KEY = record_wire_key(KEY), provider_wire_key(KEY)


def peer(number: int) -> bytes:
    return PREFIX + hashlib.sha256(b"%d" % number).digest()


class OnlyGood:
    def validate(self, key: bytes, value: bytes, now: int) -> None:
        if value != b"good":
            raise InvalidRecordError("signature")

    def select(self, key: bytes, values: list[bytes]) -> int:
        return 0


class Server:
    def __init__(self) -> None:
        self.table = RoutingTable(OWN)
        self.records = RecordStore(OnlyGood(), OWN)
        self.providers = ProviderStore(OWN)
        self.core = KadServer(OWN, self.table, self.records, self.providers)

    def ask(self, request: Message, sender: bytes = peer(0), now: int = NOW) -> Message | None:
        return self.core.handle(request, sender, own_addresses=(b"own",), now=now)


@pytest.fixture
def server():
    made = Server()
    for number in range(40):
        made.table.add(Contact(peer(number), (b"a",)), 0)
    return made


def test_ping(server):
    assert server.ask(Message(MessageType.PING)) == Message(MessageType.PING)


def test_find_node_names_the_nearest_but_not_the_asker(server):
    answer = server.ask(Message(MessageType.FIND_NODE, key=peer(0)))
    assert answer is not None
    everyone = sorted(
        (entry.contact for entry in server.table.entries()), key=lambda c: kad_id(c.peer_id) ^ kad_id(peer(0))
    )
    assert list(answer.closer_peers) == [contact for contact in everyone if contact.peer_id != peer(0)][:20]


def test_asked_for_ourselves_we_give_our_addresses(server):
    answer = server.ask(Message(MessageType.FIND_NODE, key=OWN))
    assert answer is not None
    assert answer.closer_peers[0] == Contact(OWN, (b"own",))
    assert len(answer.closer_peers) == 20


def test_find_node_needs_a_key(server):
    with pytest.raises(KadMessageError):
        server.ask(Message(MessageType.FIND_NODE))


def test_a_value_is_stored_and_given_with_its_time(server):
    record = Record(RECORD_KEY, b"good")
    put = Message(MessageType.PUT_VALUE, RECORD_KEY, record)
    assert server.ask(Message(MessageType.GET_VALUE, RECORD_KEY)).record is None
    assert server.ask(put) == put
    answer = server.ask(Message(MessageType.GET_VALUE, RECORD_KEY), peer(5))
    assert answer.record == Record(RECORD_KEY, b"good", "2027-01-15T08:00:00.000000000Z")
    assert len(answer.closer_peers) == 20


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Message(MessageType.PUT_VALUE, RECORD_KEY, Record(RECORD_KEY, b"bad")), "signature"),
        (Message(MessageType.PUT_VALUE, RECORD_KEY, Record(RECORD_KEY, b"g" * 5120)), "size"),
        (Message(MessageType.PUT_VALUE, b"/pk/x", Record(b"/pk/x", b"good")), "namespace"),
        (Message(MessageType.GET_VALUE, b"/ipns/x"), "namespace"),
        (Message(MessageType.GET_VALUE, b"/sov/x"), "key"),
        (Message(MessageType.ADD_PROVIDER, PROVIDER_KEY), "not_the_provider"),
        (
            Message(MessageType.ADD_PROVIDER, PROVIDER_KEY, provider_peers=(Contact(peer(1), (b"a",)),)),
            "not_the_provider",
        ),
        (Message(MessageType.ADD_PROVIDER, PROVIDER_KEY, provider_peers=(Contact(peer(0)),)), "not_the_provider"),
    ],
)
def test_refusals_leave_nothing_behind(server, request_, reason):
    with pytest.raises(RequestRefusedError) as caught:
        server.ask(request_)
    assert caught.value.reason == reason
    assert len(server.records) == len(server.providers) == 0


@pytest.mark.parametrize(
    "request_",
    [
        Message(MessageType.PUT_VALUE, RECORD_KEY),
        Message(MessageType.PUT_VALUE, RECORD_KEY, Record(record_wire_key(bytes(32)), b"good")),
        Message(MessageType.ADD_PROVIDER, KEY),
        Message(MessageType.GET_PROVIDERS, KEY),
    ],
)
def test_requests_that_make_no_sense(server, request_):
    with pytest.raises(KadMessageError):
        server.ask(request_)


def test_providers_speak_for_themselves(server):
    own = Contact(peer(0), (b"a",))
    announcement = Message(MessageType.ADD_PROVIDER, PROVIDER_KEY, provider_peers=(Contact(peer(1), (b"x",)), own))
    assert server.ask(announcement) is None
    answer = server.ask(Message(MessageType.GET_PROVIDERS, PROVIDER_KEY), peer(7))
    assert answer.provider_peers == (own,)
    assert len(answer.closer_peers) == 20


def test_writes_and_reads_have_a_rate():
    rate = RateLimit()
    for _ in range(int(WRITE_BURST)):
        rate.take(peer(1), is_write=True, now=0)
    with pytest.raises(RequestRefusedError) as caught:
        rate.take(peer(1), is_write=True, now=0)
    assert caught.value.reason == "rate"
    rate.take(peer(2), is_write=True, now=0)
    for _ in range(int(REQUEST_BURST - WRITE_BURST)):
        rate.take(peer(1), is_write=False, now=0)
    with pytest.raises(RequestRefusedError):
        rate.take(peer(1), is_write=False, now=0)
    for _ in range(int(REQUESTS_PER_S)):
        rate.take(peer(1), is_write=False, now=1)
    with pytest.raises(RequestRefusedError):
        rate.take(peer(1), is_write=False, now=0.5)


def test_senders_are_bounded():
    rate = RateLimit()
    for _ in range(int(WRITE_BURST)):
        rate.take(peer(1), is_write=True, now=0)
    for number in range(MAX_TRACKED_SENDERS):
        rate.take(b"%d" % number, is_write=False, now=0)
    rate.take(peer(1), is_write=True, now=0)

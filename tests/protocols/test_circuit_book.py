"""What a relay admits and counts."""

from sovereign_protocols.circuit.messages import Limit, Status
from sovereign_protocols.circuit.relay_book import Circuit, RelayBook, RelayLimits


def open_circuit(
    book: RelayBook, source: str, destination: str, now: float = 0.0, favoured: bool = False
) -> Circuit:
    circuit = book.open(source, destination, now, favoured=favoured)
    assert isinstance(circuit, Circuit)
    return circuit


def test_reservations_are_bounded_and_end():
    book = RelayBook(RelayLimits(reservations=1, reservation_s=10))
    assert book.reserve("a", 0) is Status.OK
    assert book.reserve("b", 0) is Status.RESERVATION_REFUSED
    assert book.reserve("a", 5) is Status.OK
    assert book.reservations(14.9) == 1
    assert book.reserve("b", 15) is Status.OK
    book.release("b")
    book.release("b")
    assert book.reservations(15) == 0


def test_a_circuit_needs_a_reservation_and_room():
    book = RelayBook(RelayLimits(circuits=2, circuits_per_peer=1))
    assert book.open("s", "a", 0, favoured=False) is Status.NO_RESERVATION
    for peer in "abc":
        book.reserve(peer, 0)
    first = open_circuit(book, "s", "a")
    assert book.open("s", "b", 0, favoured=False) is Status.RESOURCE_LIMIT_EXCEEDED
    assert book.open("t", "a", 0, favoured=True) is Status.RESOURCE_LIMIT_EXCEEDED
    second = open_circuit(book, "t", "b")
    assert book.open("u", "c", 0, favoured=True) is Status.RESOURCE_LIMIT_EXCEEDED
    book.close(first)
    book.close(second)
    assert book.circuits == 0
    open_circuit(book, "s", "b")


def test_strangers_have_limits_and_favoured_peers_none():
    book = RelayBook(RelayLimits(duration_s=5, data_bytes=7))
    book.reserve("a", 0)
    assert open_circuit(book, "s", "a").limit == Limit(5, 7) == book.limit_of(favoured=False)
    assert open_circuit(book, "t", "a", favoured=True).limit == Limit() == book.limit_of(favoured=True)


def test_a_budget_is_used_up_over_all_circuits_and_renewed():
    book = RelayBook(RelayLimits(budget_bytes=100, budget_period_s=60))
    book.reserve("a", 0)
    first = open_circuit(book, "s", "a")
    assert book.carry(first, 60, 0)
    second = open_circuit(book, "s", "a")
    assert book.carry(second, 40, 1)
    assert not book.carry(second, 1, 1)
    assert book.open("s", "a", 2, favoured=False) is Status.RESOURCE_LIMIT_EXCEEDED
    favoured = open_circuit(book, "s", "a", 2, favoured=True)
    assert book.carry(favoured, 10**9, 2)
    assert favoured.carried_bytes == 10**9
    assert book.carry(open_circuit(book, "s", "a", 61), 100, 61)


def test_no_budget_is_no_limit():
    book = RelayBook(RelayLimits(budget_bytes=0))
    book.reserve("a", 0)
    assert book.carry(open_circuit(book, "s", "a"), 10**12, 0)

"""The provider's desk over the real database."""

import threading
from types import SimpleNamespace

import pytest
from market_world import CUSTOMER, GB, NOW, PROVIDER, STRANGER, World

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.contract_book import StateContractBook
from sovereign_node.store import open_state
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import Act, ActKind, sign_act
from sovereign_protocols.market.draft import draft_revision
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.terms import agree, parse_terms, sign_terms


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        yield opened


class Quotas:
    """The two methods of a chunk store that the book calls."""

    def __init__(self) -> None:
        self.quotas: dict[bytes, int] = {}

    def set_quota(self, contract_id: bytes, capacity_bytes: int) -> None:
        self.quotas[contract_id] = capacity_bytes

    def usage(self, contract_id: bytes) -> SimpleNamespace:
        return SimpleNamespace(size_bytes=0, chunks=0)


@pytest.fixture
def quotas() -> Quotas:
    return Quotas()


@pytest.fixture
def world(state, quotas) -> World:
    return World(StateContractBook(state, quotas, NETWORK_ID_MAIN))


def opened(world: World, node=CUSTOMER, **changes):
    signed = sign_terms(world.terms(node, **changes), node.device_key)
    answer = world.desk.handle(node.caller, m.Propose(signed.raw))
    assert isinstance(answer, m.Accept), answer
    return agree(signed, parse_terms(answer.terms))


def test_a_contract_is_a_row_that_users_can_read(world: World, state, quotas) -> None:
    agreement = opened(world)
    row = state.contracts.get(agreement.contract_id)
    assert (row.role, row.state, row.capacity_bytes) == ("provider", "active", 5 * GB)
    assert row.provider_device == PROVIDER.device_key.public
    assert world.book.get(agreement.contract_id).agreement == agreement
    assert quotas.quotas == {agreement.contract_id: 5 * GB}


def test_a_revision_replaces_the_row_and_keeps_every_signature(world: World, state) -> None:
    agreement = opened(world)
    offer = world.offers.current(NOW).hash
    terms = draft_revision(agreement, nonce=bytes(16), capacity_bytes=7 * GB, offer=offer)
    signed = sign_terms(terms, CUSTOMER.device_key)
    assert isinstance(world.desk.handle(CUSTOMER.caller, m.Amend(signed.raw)), m.Accept)
    assert state.contracts.get(agreement.contract_id).revision == 1
    assert len(state.contracts.statements(agreement.contract_id)) == 4
    assert world.book.get(agreement.contract_id).agreement.terms.capacity_bytes == 7 * GB


def test_acts_move_the_state(world: World, state) -> None:
    agreement = opened(world)
    act = Act(ActKind.CLOSE, agreement.contract_id, agreement.terms_hash, NOW, NOW)
    world.desk.handle(CUSTOMER.caller, m.Close(sign_act(act, CUSTOMER.device_key).raw))
    assert world.book.get(agreement.contract_id).state is ContractState.CLOSED
    assert len(state.contracts.statements(agreement.contract_id)) == 4
    assert state.contracts.committed_bytes() == 0


def test_proposals_that_race_share_the_capacity(world: World) -> None:
    world.capacity = 20 * GB
    answers: list[m.Message] = []

    def propose(node, number: int) -> None:
        signed = sign_terms(world.terms(node, nonce=number), node.device_key)
        answers.append(world.desk.handle(node.caller, m.Propose(signed.raw)))

    threads = [threading.Thread(target=propose, args=((CUSTOMER, STRANGER)[n % 2], n)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, m.Accept) for answer in answers) == 4
    assert {answer.reason for answer in answers if isinstance(answer, m.Refuse)} == {"capacity"}
    assert world.book.committed_bytes() == 20 * GB

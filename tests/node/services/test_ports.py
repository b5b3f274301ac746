import socket
from pathlib import Path

import pytest

from sovereign_node.services.ports import remember_ports, remembered_listen
from sovereign_node.store import State, open_state

ANY = "/ip4/127.0.0.1/tcp/0"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state.sqlite")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_port_of_the_last_run_is_taken_again(state: State) -> None:
    assert remembered_listen([ANY], state) == (ANY,)
    port = free_port()
    remember_ports([ANY], [f"/ip4/127.0.0.1/tcp/{port}/p2p/12D3", "/nats/h:1/p2p/12D3"], state)
    assert remembered_listen([ANY], state) == (f"/ip4/127.0.0.1/tcp/{port}",)
    assert remembered_listen(["/ip4/127.0.0.1/tcp/4001"], state) == ("/ip4/127.0.0.1/tcp/4001",)
    state.close()


def test_port_that_somebody_else_has_is_left(state: State) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        remember_ports([ANY], [f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}/p2p/12D3"], state)
        assert remembered_listen([ANY], state) == (ANY,)
    state.close()


def test_several_ports_are_not_told_apart(state: State) -> None:
    remember_ports([ANY], ["/ip4/127.0.0.1/tcp/1/p2p/x", "/ip4/127.0.0.1/tcp/2/p2p/x"], state)
    assert remembered_listen([ANY], state) == (ANY,)
    state.close()

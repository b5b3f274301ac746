"""Sessions that outlive their connections: repeated calls, one renewal for all, and moves to better paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.net.paths import BEST_RANK, DIRECT, RELAYED, rank_of_path
from sovereign_node.services.lasting_session import MAX_FRUITLESS, OF_USE_S, open_lasting_session
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteError


class Client:
    """Stands for a session; calls on it fail once it is lost."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_lost = False
        self.is_open = True

    async def ask(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.is_lost:
            raise ConnectionLostError("gone")
        return self.number


class Provider:
    """Takes sessions, but for each refusal that is left."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rank = rank_of_path(path)
        self.clients: list[Client] = []
        self.refusals: list[NodeError] = []
        self.breaks = False

    async def open_stream(self) -> Any:
        await trio.lowlevel.checkpoint()
        if self.refusals:
            raise self.refusals.pop(0)
        return SimpleNamespace(path=self.path)

    @asynccontextmanager
    async def begin(self, _stream: Any) -> AsyncIterator[Client]:
        client = Client(len(self.clients))
        client.is_lost = self.breaks
        self.clients.append(client)
        try:
            yield client
        finally:
            client.is_open = False

    def session(self) -> Any:
        return open_lasting_session("peer", self.open_stream, self.begin, lambda: self.rank)  # type: ignore[arg-type]


def away() -> NodeError:
    return NodeError("unreachable", "nobody there", "wait", ExitCode.UNREACHABLE)


async def test_calls_that_were_under_way_are_repeated_on_one_new_session(autojump_clock: object) -> None:
    provider = Provider(RELAYED)
    async with provider.session() as session:
        assert await session.call(Client.ask) == 0
        provider.clients[0].is_lost = True
        # The relay starts again, and the provider comes back to it.
        provider.refusals = [away() for _ in range(5)]
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await session.call(Client.ask))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert answers == [1] * 8
        assert len(provider.clients) == 2
        await trio.testing.wait_all_tasks_blocked()
        assert [client.is_open for client in provider.clients] == [False, True]
    assert not provider.clients[1].is_open


@pytest.mark.parametrize(("path", "at_least_s", "at_most_s"), [(DIRECT, 1, 6), (RELAYED, 30, 70)])
async def test_a_provider_that_stays_away_is_given_up_once_for_all(
    autojump_clock: object, path: str, at_least_s: float, at_most_s: float
) -> None:
    provider = Provider(path)
    async with provider.session() as session:
        provider.clients[0].is_lost = True
        provider.refusals = [away() for _ in range(100)]
        started = trio.current_time()
        for _ in range(3):
            with pytest.raises(ConnectionLostError):
                await session.call(Client.ask)
        assert at_least_s < trio.current_time() - started < at_most_s


async def test_a_refusal_is_not_waited_out(autojump_clock: object) -> None:
    provider = Provider(RELAYED)
    refused = NodeError("device_refused", "revoked", "see devices")
    provider.refusals = [refused]
    with pytest.raises(NodeError, match="revoked"):
        async with provider.session():
            raise AssertionError("there is no session")
    async with provider.session() as session:
        provider.clients[0].is_lost = True
        provider.refusals = [refused]
        started = trio.current_time()
        with pytest.raises(ConnectionLostError) as caught:
            await session.call(Client.ask)
        assert caught.value.__cause__ is refused
        assert trio.current_time() == started


async def test_a_provider_that_breaks_every_session_is_given_up() -> None:
    provider = Provider(DIRECT)
    provider.breaks = True
    async with provider.session() as session:
        with pytest.raises(ConnectionLostError):
            await session.call(Client.ask)
    assert len(provider.clients) == MAX_FRUITLESS + 1


async def test_a_long_download_may_lose_many_sessions_that_were_of_use(autojump_clock: object) -> None:
    provider = Provider(RELAYED)
    async with provider.session() as session:
        for number in range(2 * MAX_FRUITLESS):
            with session.use() as client:
                await trio.sleep(OF_USE_S + 1)
            await session.renew(client, ConnectionLostError("gone"))
            assert len(provider.clients) == number + 2


async def test_other_errors_come_out_at_once() -> None:
    provider = Provider(DIRECT)

    async def refuse(_client: Client) -> None:
        raise RemoteError(ErrorCode.QUOTA, {})

    async with provider.session() as session:
        with pytest.raises(RemoteError):
            await session.call(refuse)
        with pytest.raises(ZeroDivisionError):
            async with provider.session():
                raise ZeroDivisionError
    assert [client.is_open for client in provider.clients] == [False, False]


async def test_new_calls_take_a_better_path_and_running_ones_end_where_they_are(autojump_clock: object) -> None:
    provider = Provider(RELAYED)
    async with provider.session() as session:
        finish = trio.Event()
        numbers: list[int] = []

        async def take_long(client: Client) -> None:
            await finish.wait()
            numbers.append(await client.ask())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.call, take_long)
            await trio.testing.wait_all_tasks_blocked()
            # The first attempt to move fails, and is not repeated at once.
            provider.path, provider.rank = DIRECT, BEST_RANK
            provider.refusals = [away()]
            for _ in range(3):
                assert await session.call(Client.ask) == 0
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(11)
            assert await session.call(Client.ask) == 0
            await trio.testing.wait_all_tasks_blocked()
            assert session.path == DIRECT
            assert await session.call(Client.ask) == 1
            assert provider.clients[0].is_open
            finish.set()
        assert numbers == [0]
        await trio.testing.wait_all_tasks_blocked()
        assert [client.is_open for client in provider.clients] == [False, True]

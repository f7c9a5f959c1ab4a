"""Bytes on a descriptor in the loop: who waits for them, and what happens when nobody does."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop

from edge_agent.bus import LinkError
from edge_agent.bus.link import Link


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def link_on(ours: socket.socket) -> Link:
    return Link(ours.fileno(), close=ours.close, explain=lambda error: "gone")


async def test_what_nobody_waits_for_lies_there_and_does_not_keep_the_loop_busy(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    link, looked = link_on(ours), 0
    look = link._look

    def count() -> None:
        nonlocal looked
        looked += 1
        look()

    link._look = count  # type: ignore[method-assign]
    theirs.send(b"one")
    assert await link.read_within(5) == b"one"
    theirs.send(b"two")
    for _ in range(50):
        await asyncio.sleep(0)
    assert looked <= 3
    assert await link.read_within(5) == b"two"
    assert await link.read_within(0) is None


async def test_an_end_that_comes_while_nobody_waits_is_told_to_the_next_who_does(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    link = link_on(ours)
    theirs.send(b"last words")
    assert await link.read_within(5) == b"last words"
    theirs.close()
    await asyncio.sleep(0)
    with pytest.raises(LinkError, match="gone"):
        await link.read_within(5)


async def test_a_wait_that_is_cancelled_loses_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    link = link_on(ours)
    waiting = asyncio.create_task(link.read())
    await asyncio.sleep(0)
    theirs.send(b"kept")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await link.read_within(5) == b"kept"


async def test_after_it_is_closed_its_descriptor_may_be_anybodys(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    link, loop = link_on(ours), asyncio.get_running_loop()
    fd = ours.fileno()
    theirs.send(b"x")
    assert await link.read_within(5) == b"x"
    link.close()
    assert loop.remove_reader(fd) is False


@pytest.mark.parametrize(
    "story",
    [
        test_what_nobody_waits_for_lies_there_and_does_not_keep_the_loop_busy,
        test_a_wait_that_is_cancelled_loses_nothing,
    ],
)
def test_it_is_the_same_on_the_loop_that_the_agent_runs_on(story, ends) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story(ends))

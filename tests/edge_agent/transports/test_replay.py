"""A bus that plays a trace: the same readings in the same time, and an end that is no silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rigs.commands import typed
from rigs.ports import wait_until
from rigs.readings import Readings, device, running, stamp
from rigs.traces import Tape, jammed
from rigs.warehouse import Agent

from edge_agent import config
from edge_agent.config import ConfigError
from edge_agent.grammar import ListenRead, RequestRead
from edge_agent.sample import Reading, Trouble
from edge_agent.trace_file import opened
from edge_agent.transports.replay import Settings, Transport

BELT = device("belt-1", {"status": RequestRead(send="S?"), "voice": ListenRead(listen=True)})


def settings(file: Path, **more: object) -> Settings:
    return Settings.model_validate({"name": "bus", "file": file, "speed": 1000, **more})


def said(file: Path) -> list[object]:
    return [one.payload for one in opened(file).happened() if isinstance(one, Reading)]


async def test_it_brings_what_the_trace_holds_and_then_no_link(tmp_path: Path) -> None:
    file = jammed().written(tmp_path / "jam.gz")
    readings = Readings()
    async with running(Transport(settings(file), [BELT], readings.deliver, stamp).run()):
        gone = await readings.until_trouble(Trouble.NO_LINK)
    assert gone.detail == f"{file} is over"
    assert readings.payloads("status") == said(file)


async def test_troubles_and_what_was_retained_come_as_they_were(tmp_path: Path) -> None:
    tape = (
        Tape()
        .says("status", trouble=Trouble.NO_ANSWER, detail="nothing came")
        .says("status", b"0", retained=True)
    )
    readings = Readings()
    file = tape.written(tmp_path / "trace.gz")
    async with running(Transport(settings(file), [BELT], readings.deliver, stamp).run()):
        await readings.until(1)
    assert readings.of("status")[0].trouble is Trouble.NO_ANSWER
    assert readings.of("status")[0].detail == "nothing came"
    assert readings.of("status")[1].retained


async def test_it_takes_the_time_that_it_took_divided_by_its_speed(tmp_path: Path) -> None:
    """On a clock of our own, as far as the sleeps add up to what was asked."""
    file = jammed().written(tmp_path / "jam.gz")
    readings, slept = Readings(), []
    bus = Transport(settings(file, speed=10), [BELT], readings.deliver, stamp, clock=lambda: 0.0)
    sleep = asyncio.sleep

    async def instant(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    asyncio.sleep = instant  # type: ignore[assignment]
    try:
        async with running(bus.run()):
            while not readings.troubles():
                await sleep(0.001)
    finally:
        asyncio.sleep = sleep
    assert slept == [pytest.approx(t / 10) for t in (0, 2, 10, *range(20, 30))]


async def test_again_and_again_it_is_never_over(tmp_path: Path) -> None:
    file = jammed().written(tmp_path / "jam.gz")
    readings = Readings()
    bus = Transport(settings(file, loop=True), [BELT], readings.deliver, stamp)
    async with running(bus.run()):
        await readings.until(3 * len(said(file)))
    assert readings.troubles() == []


async def test_a_device_of_the_trace_that_is_not_configured_is_left_out(tmp_path: Path) -> None:
    tape = Tape(devices={"belt-1": {}, "belt-2": {}}).status().status(device="belt-2").says("weight", b"1")
    readings = Readings()
    file = tape.written(tmp_path / "trace.gz")
    async with running(Transport(settings(file), [BELT], readings.deliver, stamp).run()):
        await readings.until_trouble(Trouble.NO_LINK)
    assert readings.payloads() == [(b"0,1.0",)]


async def test_a_trace_that_is_taken_away_is_no_link_and_no_crash(tmp_path: Path) -> None:
    readings = Readings()
    bus = Transport(settings(tmp_path / "gone.gz"), [BELT], readings.deliver, stamp)
    async with running(bus.run()):
        gone = await readings.until_trouble(Trouble.NO_LINK)
    assert "gone.gz: cannot be read: No such file or directory" in gone.detail


def configured(folder: Path, file: Path, device_id: str = "belt-1") -> str:
    (folder / "conveyor.yaml").write_text(jammed().header.profiles["conveyor"])
    return f"""
        [[bus]]
        name = "demo"
        transport = "replay"
        file = "{file}"
        speed = 100
        [[device]]
        id = "{device_id}"
        bus = "demo"
        profile = "generic-line"
        """


def test_a_configuration_names_a_device_that_the_trace_has(tmp_path: Path) -> None:
    file = jammed().written(tmp_path / "jam.gz")
    toml = tmp_path / "agent.toml"
    toml.write_text(configured(tmp_path, file))
    assert config.load(toml).buses[0].line.words == f"replay of {file}, 100 times as fast"
    toml.write_text(configured(tmp_path, file, "belt-9"))
    with pytest.raises(ConfigError, match=r"bus\[0\] \(demo\): .* has no device 'belt-9'; .*: belt-1"):
        config.load(toml)
    toml.write_text(configured(tmp_path, tmp_path / "nothing.gz"))
    with pytest.raises(ConfigError, match=r"nothing.gz: cannot be read"):
        config.load(toml)


async def test_the_check_of_an_installer_says_that_nobody_is_asked(tmp_path: Path) -> None:
    file = jammed().written(tmp_path / "jam.gz")
    toml = tmp_path / "agent.toml"
    toml.write_text(configured(tmp_path, file))
    said = await typed("check", "--config", toml)
    assert f"  replay of {file}, 100 times as fast\n  belt-1: as recorded\n" in said


async def test_a_running_agent_raises_what_the_trace_shows(tmp_path: Path) -> None:
    file = jammed().written(tmp_path / "jam.gz")
    agent = Agent(tmp_path / "gw-1", "gw-1")
    text = configured(tmp_path, file).replace("generic-line", "conveyor").replace("speed = 100", "speed = 4")
    agent.configure(text.replace("[[bus]]", f'profiles_dir = "{tmp_path}"\n[[bus]]'))
    agent.start()
    try:
        await wait_until(lambda: "belt-1|belt|jam" in agent.said(), what="the jam of the trace")
        await wait_until(lambda: "is over" in agent.said(), what="its end")
    finally:
        agent.stop()

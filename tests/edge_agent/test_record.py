"""`edge-agent record`: from an agent that runs, or from the buses when none does; and it disturbs nobody."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from rigs.commands import Command, command, typed
from rigs.moments import HandClock
from rigs.mosquitto import Broker
from rigs.ports import wait_until
from rigs.readings import running, stamp
from rigs.small_disk import SmallDisk, with_a_disk_of
from rigs.warehouse import Agent, serial_printer

from device_profiles.simulators.serving import Pty
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent import config, record, recording, tap, trace_file
from edge_agent.config import Settings
from edge_agent.journal_caps import MIB
from edge_agent.journal_file import lock_file
from edge_agent.sample import Reading
from edge_agent.tap import Tap
from edge_agent.wire import Stamp


def recorded(file: Path, device: str = "printer-1") -> list[Reading]:
    found = trace_file.opened(file).happened() if file.exists() and file.stat().st_size else iter(())
    return [one for one in found if isinstance(one, Reading) and one.device == device]


@asynccontextmanager
async def printer(folder: Path, *, every_s: float = 0.2) -> AsyncIterator[tuple[ZebraPrinter, Agent]]:
    """A printer on a serial line, and an agent that is configured for it and does not run yet."""
    device = ZebraPrinter(Pty(folder / "printer"))
    await device.start()
    agent = Agent(folder / "gw-1", "gw-1")
    agent.configure(serial_printer(folder / "printer").replace("every_s = 0.2", f"every_s = {every_s}"))
    try:
        yield device, agent
    finally:
        agent.stop()
        await device.stop()


async def test_an_agent_that_runs_is_heard_and_not_disturbed(tmp_path: Path) -> None:
    file = tmp_path / "paper.gz"
    async with printer(tmp_path) as (device, agent):
        agent.start()
        await wait_until(lambda: "started" in agent.said(), what="the agent")
        async with command("record", file, "--config", agent.config) as recorder:
            await wait_until(lambda: len(recorded(file)) >= 4, what="a healthy printer in the trace")
            device.set("paper_out")
            await wait_until(lambda: "media|paper-out" in agent.said(), what="paper-out")
            device.set("paper_out", False)
            await wait_until(lambda: "ended" in agent.said(), what="paper is in again")
            recorder.press_ctrl_c()
            said = await recorder.ends(0)
        assert "The agent that runs is heard; it is not disturbed." in said
        assert "stopped as told" in said
        assert not [one for one in recorded(file) if one.trouble]
        agent.stop()
        # One at a time had the port: nothing went missing on the line.
        assert "no link" not in agent.said()
        assert "the recording has ended" in agent.said()
    found = json.loads(await typed("replay", file, "--json"))
    assert [one["fault"] for one in found["occurrences"]] == ["paper-out"]
    assert found["occurrences"][0]["reason"] == "cleared"


async def test_without_an_agent_the_buses_are_opened(tmp_path: Path) -> None:
    file = tmp_path / "printer.gz"
    async with printer(tmp_path) as (_, agent):
        said = await typed("record", file, "--config", agent.config, "--seconds", "2")
    assert "No agent runs here: the buses are opened. Nothing is detected meanwhile." in said
    assert "the time is over" in said
    assert len([one for one in recorded(file) if one.payload]) > 4


async def test_an_agent_that_starts_meanwhile_is_told_that_the_port_is_taken_and_gets_it_back(
    tmp_path: Path,
) -> None:
    file = tmp_path / "printer.gz"
    async with printer(tmp_path) as (_, agent):
        async with command("record", file, "--config", agent.config) as recorder:
            await wait_until(lambda: len(recorded(file)) >= 2, what="a recording")
            agent.start()
            await wait_until(lambda: "is busy" in agent.said(), what="the agent says so")
            recorder.press_ctrl_c()
            await recorder.ends(0)
        await wait_until(lambda: "link is up" in agent.said(), what="the port is free")


async def test_a_recording_whose_agent_is_killed_keeps_what_came(tmp_path: Path) -> None:
    file = tmp_path / "printer.gz"
    async with printer(tmp_path) as (_, agent):
        agent.start()
        await wait_until(lambda: "started" in agent.said(), what="the agent")
        async with command("record", file, "--config", agent.config) as recorder:
            await wait_until(lambda: len(recorded(file)) >= 2, what="a recording")
            agent.kill()
            said = await recorder.ends(1)
    assert "the agent has stopped" in said
    assert recorded(file)


async def test_a_recording_that_is_killed_keeps_what_came_and_the_agent_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "printer.gz"
    async with printer(tmp_path) as (_, agent):
        agent.start()
        await wait_until(lambda: "started" in agent.said(), what="the agent")
        async with command("record", file, "--config", agent.config) as recorder:
            await wait_until(lambda: len(recorded(file)) >= 2, what="a recording")
            recorder.kill()
        await wait_until(lambda: "the recording has ended" in agent.said(), what="the agent notices")
        assert "failed" not in agent.said()
        # And the next one finds it.
        said = await typed("record", tmp_path / "next.gz", "--config", agent.config, "--seconds", "1")
        assert "The agent that runs is heard" in said
    assert recorded(file)


async def test_an_agent_that_does_not_answer_keeps_no_recording_from_being_stopped(tmp_path: Path) -> None:
    file = tmp_path / "printer.gz"
    async with printer(tmp_path) as (_, agent):
        agent.start()
        await wait_until(lambda: is_heard(agent), what="the agent")
        with agent.suspended():
            async with recording_of(agent, file) as recorder:
                await wait_until(recorder.hears_signals, what="the command")
                recorder.press_ctrl_c()
                async with asyncio.timeout(10):
                    assert "stopped before the agent" in await recorder.ends(2)
    assert not file.exists()


async def test_an_agent_that_never_answers_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "HEADER_WITHIN_S", 0.5)
    async with printer(tmp_path) as (_, agent):
        agent.start()
        await wait_until(lambda: is_heard(agent), what="the agent")
        with agent.suspended(), pytest.raises(record.RecordError, match="has not answered"):
            await record.record(
                config.load(agent.config),
                tmp_path / "printer.gz",
                seconds=1,
                max_bytes=MIB,
                told=asyncio.Event(),
                tell=lambda _: None,
            )


def is_heard(agent: Agent) -> bool:
    try:
        tap._connected(agent.data_dir).close()
    except OSError:
        return False
    return True


def recording_of(agent: Agent, *words: object) -> AbstractAsyncContextManager[Command]:
    return command("record", *words, "--config", agent.config)


@with_a_disk_of(1)
def test_a_recording_that_fills_its_disk_ends_whole_and_the_agent_goes_on(disk: SmallDisk) -> None:
    async def story(folder: Path) -> None:
        file = disk.folder / "full.gz"
        async with printer(folder, every_s=0.02) as (device, agent):
            agent.start()
            await wait_until(lambda: "started" in agent.said(), what="the agent")
            async with recording_of(agent, file) as recorder:
                await wait_until(lambda: len(recorded(file)) >= 4, what="a recording")
                disk.fill()
                said = await recorder.ends(1)
            assert f"{file}: the disk is full; " in said
            assert f"To see what it would raise: edge-agent replay {file}" in said
            # Whole, and as it says.
            gzip.decompress(file.read_bytes())
            trace = trace_file.opened(file)
            readings = sum(isinstance(one, Reading) for one in trace.happened())
            assert not trace.cut_off
            assert f"{readings} readings of 1 device" in said
            assert f"{readings} readings of 1 device" in await typed("replay", file)
            # There is room for nothing more: not even for a header.
            refused = await typed("record", disk.folder / "next.gz", "--config", agent.config, code=2)
            assert "next.gz: cannot be written: No space left on device" in refused
            assert not (disk.folder / "next.gz").exists()
            await wait_until(lambda: agent.said().count("the recording has ended") == 2, what="both ends")
            device.set("paper_out")
            await wait_until(lambda: "media|paper-out" in agent.said(), what="the agent goes on")
            assert "no link" not in agent.said()
            assert "Traceback" not in agent.said()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(Path(folder)))


@with_a_disk_of(16)
def test_a_recording_leaves_the_agent_the_room_that_it_needs(disk: SmallDisk) -> None:
    async def story() -> None:
        file = disk.folder / "short.gz"
        async with printer(disk.folder) as (_, agent):
            agent.start()
            await wait_until(lambda: "started" in agent.said(), what="the agent")
            async with recording_of(agent, file) as recorder:
                await wait_until(lambda: len(recorded(file)) >= 4, what="a recording")
                # Of 16 MiB the ballast has two; with so much left the disk is short.
                disk.fill(leave=3 * MIB)
                said = await recorder.ends(1)
            assert f"{file}: the disk is nearly full, and what is left of it is the agent's; " in said
            trace = trace_file.opened(file)
            *_, last = trace.happened()
            assert isinstance(last, Stamp), "it ended in order"
            assert not trace.cut_off
            refused = await typed("record", disk.folder / "next.gz", "--config", agent.config, code=2)
            assert "what is left of it is the agent's; give a file on another disk" in refused
            assert not (disk.folder / "next.gz").exists()
            assert disk.free() > 2 * MIB

    asyncio.run(story())


async def test_only_the_devices_that_were_named_are_recorded(tmp_path: Path) -> None:
    settings = two_belts(tmp_path)
    made = recording.header(settings, stamp(), ["belt-2"])
    assert [table["id"] for table in made.device] == ["belt-2"]
    assert [table["name"] for table in made.bus] == ["bus-2"]
    one = recording.Recording(settings, stamp(), ["belt-2"])
    one.taken()
    for name in ("belt-1", "belt-2"):
        one.take(Reading(device=name, read="lines", at=stamp(), payload=(b"hello",)))
    assert [json.loads(line)["device"] for line in one.taken().splitlines()] == ["belt-2"]


async def test_no_password_is_written(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        """
        [[bus]]
        name = "broker"
        transport = "mqtt"
        host = "broker.example"
        username = "andon-reader"
        password_file = "/etc/andon/very-secret"
        client_id = "andon-7"
        tls = {key_file = "/etc/andon/key.pem"}
        [[device]]
        id = "lamp"
        bus = "broker"
        profile = "mqtt-presence"
        topic = "lamp"
        """
    )
    made = recording.header(config.load(file), stamp())
    assert made.bus == ({"name": "broker", "transport": "mqtt", "host": "broker.example"},)
    assert made.device[0]["topic"] == "lamp"


def test_no_name_and_password_of_an_address_is_written(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        """
        [[bus]]
        name = "printer"
        transport = "ipp"
        uri = "ipps://andon:very-secret@printer-7.example/ipp/print"
        [[device]]
        id = "printer-7"
        bus = "printer"
        profile = "ipp-printer"
        """
    )
    made = recording.header(config.load(file), stamp())
    assert made.bus[0]["uri"] == "ipps://printer-7.example/ipp/print"


async def test_a_machine_that_was_suspended_is_told_from_devices_that_were_silent(tmp_path: Path) -> None:
    clock = HandClock()
    one = recording.Recording(two_belts(tmp_path), clock.stamp())
    one.taken()
    for _ in range(20):
        one.beat(clock.go(1))
    assert one.taken() == b"", "silence alone"
    at = clock.go(3_600)
    one.take(Reading(device="belt-1", read="lines", at=at, payload=(b"hello",)))
    still, said = (json.loads(line) for line in one.taken().splitlines())
    assert (still["still_since"], still["t"]) == (20.0, 3_620.0)
    assert said["read"] == "lines"


async def test_a_listener_that_is_too_slow_misses_readings_and_is_told_how_many(tmp_path: Path) -> None:
    one = recording.Recording(two_belts(tmp_path), stamp())
    reading = Reading(device="belt-1", read="lines", at=stamp(), payload=(b"x" * 1000,))
    for _ in range(5_000):
        one.take(reading)
    kept = len(one.taken().splitlines()) - 1
    assert kept < 5_000
    one.take(reading)
    told = [json.loads(line) for line in one.taken().splitlines()]
    assert told[0]["missing"] == 5_000 - kept
    assert told[1]["device"] == "belt-1"


async def test_who_listens_and_takes_nothing_keeps_nobody_waiting(tmp_path: Path) -> None:
    settings = two_belts(tmp_path)
    delivered = 0

    async def deliver(reading: Reading) -> None:
        nonlocal delivered
        delivered += 1

    tapped = Tap(settings, stamp)
    take = tapped.before(deliver)
    async with running(tapped.run()):
        await wait_until(lambda: (settings.agent.data_dir / tap.SOCKET).exists(), what="the socket")
        async with tap.listening(settings.agent.data_dir, []) as agent:
            assert agent is not None
            reader, _ = agent
            await reader.readline()
            reading = Reading(device="belt-1", read="lines", at=stamp(), payload=(b"x" * 1000,))
            for number in range(20_000):
                await take(reading)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            assert delivered == 20_000
            await asyncio.sleep(2 * tap.MOVE_EVERY_S)
            lines = []
            while not lines or b"missing" not in lines[-1]:
                async with asyncio.timeout(10):
                    lines.append(await reader.readline())
                await take(reading)
            assert json.loads(lines[-1])["missing"] > 0


@pytest.mark.parametrize("request_line", [b"\n", b"[1]\n", b'{"devices": "all"}\n', b'{"devices": ["x"]}\n'])
async def test_a_stranger_on_the_socket_is_refused_in_words(tmp_path: Path, request_line: bytes) -> None:
    settings = two_belts(tmp_path)

    async with running(Tap(settings, stamp).run()):
        path = settings.agent.data_dir / tap.SOCKET
        await wait_until(path.exists, what="the socket")
        assert path.stat().st_mode & 0o077 == 0
        connected = tap._connected(settings.agent.data_dir)
        reader, writer = await asyncio.open_unix_connection(sock=connected)
        writer.write(request_line)
        assert json.loads(await reader.readline())["error"]
        assert await reader.read() == b""
        writer.close()


async def test_a_recording_ends_when_its_file_is_full(tmp_path: Path) -> None:
    async with printer(tmp_path) as (_, agent):
        agent.config.write_text(agent.config.read_text().replace("every_s = 0.2", "every_s = 0.02"))
        done = await record.record(
            config.load(agent.config),
            tmp_path / "full.gz",
            seconds=60,
            max_bytes=6_000,
            told=asyncio.Event(),
            tell=lambda _: None,
        )
    assert done.ended is record.Ended.FULL
    assert recorded(tmp_path / "full.gz")


async def test_the_broker_keeps_the_session_of_the_agent_and_forgets_that_of_a_recording(
    tmp_path: Path,
) -> None:
    """What came for the agent while it was away is still there for it after somebody recorded."""
    broker = Broker(tmp_path / "broker").start()
    agent = Agent(tmp_path / "gw-1", "gw-1")
    agent.configure(
        f"""
        [[bus]]
        name = "broker"
        transport = "mqtt"
        host = "127.0.0.1"
        port = {broker.port}
        client_id = "agent-of-hall-1"
        [[device]]
        id = "lamp"
        bus = "broker"
        profile = "mqtt-presence"
        topic = "lamp"
        [device.set]
        conditions."presence/offline".on_delay_s = 0
        """
    )
    try:
        agent.start()
        await wait_until(lambda: "link is up" in agent.said(), what="the agent at the broker")
        await asyncio.sleep(0.5)
        agent.stop()
        await asyncio.to_thread(broker.publish, "tele/lamp/LWT", "Offline")
        said = await typed("record", tmp_path / "lamp.gz", "--config", agent.config, "--seconds", "1")
        assert "0 readings" not in said, said
        assert not [one for one in recorded(tmp_path / "lamp.gz", "lamp") if one.payload], (
            "that was for the agent"
        )
        agent.start()
        await wait_until(lambda: "lamp|presence|offline" in agent.said(), what="what was kept for the agent")
        agent.stop()
    finally:
        agent.stop()
        broker.stop()


async def test_what_cannot_be_recorded_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "printer.gz"
    async with printer(tmp_path) as (_, agent):
        where = ("--config", agent.config)
        assert "there are: printer-1" in await typed("record", file, "--device", "x", *where, code=2)
        agent.data_dir.mkdir()
        held = lock_file(agent.data_dir / "journal.lock")
        assert "an agent runs on" in await typed("record", file, *where, code=2)
        os.close(held)
        assert not file.exists()
        file.write_text("precious")
        assert "is there already; give another name" in await typed("record", file, *where, code=2)
        assert file.read_text() == "precious"
        nowhere = tmp_path / "nowhere" / "x.gz"
        assert "x.gz: cannot be written" in await typed("record", nowhere, *where, code=2)
        agent.start()
        await wait_until(lambda: "started" in agent.said(), what="the agent")
        other = tmp_path / "other.gz"
        assert "the agent that runs says: no [[device]] has the id 'x'" in await typed(
            "record", other, "--device", "x", *where, code=2
        )


def test_what_is_missing_on_the_way_is_counted() -> None:
    progress = record.Progress(path=Path("x"))
    record._count(b'{"t":1.0,"missing":3}\n{"t":1.0,"device":"a","read":"b"}\n', progress)
    assert (progress.missing, progress.readings["a"]) == (3, 1)


def two_belts(folder: Path) -> Settings:
    """Two devices that send lines, each on a bus of its own; nobody is there."""
    (folder / "data").mkdir(exist_ok=True)
    tables = "".join(
        f"""
        [[bus]]
        name = "bus-{number}"
        transport = "tcp"
        host = "127.0.0.1"
        port = {number}
        [[device]]
        id = "belt-{number}"
        bus = "bus-{number}"
        profile = "generic-line"
        """
        for number in (1, 2)
    )
    file = folder / "agent.toml"
    file.write_text(f'[agent]\ndata_dir = "{folder / "data"}"\n{tables}')
    return config.load(file)

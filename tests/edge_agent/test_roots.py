"""What explains that devices are not heard, over the real journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rigs.journals import opened, opening
from rigs.moments import HandClock, ids
from rigs.ports import wait_until
from rigs.readings import running
from rigs.watching import Floor, conveyor

from edge_agent import roots
from edge_agent.device import Device
from edge_agent.occurrence import Explaining
from edge_agent.recorder import Recorder
from edge_agent.roots import Tree
from edge_agent.sample import Reading, Trouble
from edge_agent.transports import host_adapter
from edge_agent.transports.serial import port_adapter
from edge_agent.watch import Watch
from edge_agent.wire import Row

GATEWAY = "gw-1"
LINE = [f"belt-{number}" for number in range(1, 11)]


def belt(name: str, bus: str = "line-3", fed_by: Sequence[str] = ()) -> Device:
    return replace(conveyor(name), bus=bus, fed_by=tuple(fed_by))


class Site(Floor):
    async def rows(self) -> dict[str, Row]:
        return {row.key: row for row in await self.journal.open_occurrences()}

    async def because(self) -> dict[str, str]:
        """What is open -> what explains it; "waits" for what may be explained yet."""
        rows = await self.rows()
        names = {row.uid: key for key, row in rows.items()}
        return {
            key: "waits" if row.waits else names[row.because] if row.because else ""
            for key, row in rows.items()
        }

    async def gone(self, *devices: str) -> None:
        for device in devices:
            for read in ("status", "voice"):
                reading = Reading(
                    device=device,
                    read=read,
                    at=self.clock.stamp(),
                    trouble=Trouble.NO_LINK,
                    detail="port ttyS1 is not there: unplugged?",
                )
                await self.watch.take(reading)

    async def time_goes(self, seconds: float) -> None:
        self.clock.go(seconds)
        async with running(self.watch.run()):
            await wait_until(lambda: not self.late(), what="all that was due")


@asynccontextmanager
async def site(
    folder: Path,
    clock: HandClock,
    devices: Sequence[Device],
    adapters: dict[str, str] | None = None,
    new_id: Callable[[], str] | None = None,
) -> AsyncIterator[Site]:
    tree = roots.tree(GATEWAY, devices, adapters or {})
    async with opened(folder, clock, new_id or ids()) as journal:
        watch = await Watch.start(devices, journal, Recorder(devices), clock.stamp, tree=tree)
        yield Site(watch, journal, clock)


async def test_an_adapter_with_ten_devices_that_is_unplugged_is_one_cause_and_ten_rows_that_name_it(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, [belt(name) for name in LINE]) as floor:
        for name in LINE:
            await floor.status(device=name)
        gone = clock.go(1)
        await floor.gone(*LINE)
        await floor.time_goes(30)
        rows = await floor.rows()
        bus = rows["gw-1|line-3|unreachable"]
        assert (bus.first_bad, bus.raised) == (gone, clock.stamp())
        assert bus.evidence == {"why": ["port ttyS1 is not there: unplugged?"], "devices": LINE}
        assert bus.title == "Bus line-3 cannot be reached (10 devices)"
        assert await floor.because() == {bus.key: ""} | {f"{name}|link|unreachable": bus.key for name in LINE}
        # No row of a device is sent before the one that explains it.
        assert min(row.mod_seq for row in rows.values()) == bus.mod_seq


async def test_a_row_that_waits_and_that_nothing_settles_any_more_is_asked_for_once(tmp_path: Path) -> None:
    """It was written when the condition was a symptom, which the profile does not say any more."""
    clock = HandClock()
    async with opened(tmp_path, clock, ids()) as journal:
        own = replace(opening(clock, GATEWAY), component="agent", fault="disk")
        await journal.commit([own])
        await journal.commit([Explaining(key=own.key, waits=clock.go(1))])
        watch = await Watch.start([], journal, Recorder([]), clock.stamp, tree=Tree())
        await watch.look(clock.go(1))
        assert watch.deadline_ns() is None


async def test_what_was_lost_before_the_bus_is_adopted_by_it(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, [belt("belt-1"), belt("belt-2")]) as floor:
        await floor.status(device="belt-2")
        await floor.gone("belt-1")
        await floor.time_goes(45)
        assert await floor.because() == {"belt-1|link|unreachable": ""}
        (first,) = (await floor.rows()).values()
        late = clock.go(1)
        await floor.gone("belt-2")
        # Nothing on the bus is heard any more, and one of them has been declared: no need to wait for all.
        bus = "gw-1|line-3|unreachable"
        assert await floor.because() == {"belt-1|link|unreachable": bus, bus: ""}
        rows = await floor.rows()
        assert (rows[bus].first_bad, rows[bus].raised) == (late, late)
        adopted = rows["belt-1|link|unreachable"]
        assert (adopted.uid, adopted.rev, adopted.raised) == (first.uid, first.rev + 1, first.raised)
        await floor.time_goes(30)
        assert (await floor.because())["belt-2|link|unreachable"] == bus


async def test_what_is_still_lost_when_the_bus_is_back_stands_up_after_its_own_delay(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, [belt(name) for name in LINE[:3]]) as floor:
        await floor.gone(*LINE[:3])
        await floor.time_goes(31)
        back = clock.go(5)
        await floor.status(device="belt-1")
        # The others may be heard any moment: nobody is called for them yet.
        assert await floor.because() == {
            "belt-2|link|unreachable": "waits",
            "belt-3|link|unreachable": "waits",
        }
        (closed,) = [
            row
            for row in (await floor.journal.batch(max_rows=99, max_bytes=1 << 20)).rows
            if isinstance(row, dict) and row["component"] == "line-3"
        ]
        assert (closed["state"], closed["reason"]) == ("closed", "cleared")
        # Told after the rows that wait: else they would call for as long as a message takes.
        assert closed["mod_seq"] > max(row.mod_seq for row in (await floor.rows()).values())
        assert closed["cleared"]["mono_ns"] == back.mono_ns
        clock.go(1)
        await floor.status(device="belt-2")
        await floor.trouble(Trouble.NO_ANSWER, device="belt-3")
        assert await floor.because() == {"belt-3|link|unreachable": "waits"}
        await floor.time_goes(30)
        assert await floor.because() == {"belt-3|link|unreachable": ""}


async def test_a_restart_while_the_bus_is_down_changes_nothing(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    devices = [belt("belt-1"), belt("belt-2")]
    async with site(tmp_path, clock, devices, new_id=new_id) as floor:
        await floor.gone("belt-1", "belt-2")
        await floor.time_goes(31)
        before = await floor.rows()
        assert len(before) == 3
    clock.reboot()
    async with site(tmp_path, clock, devices, new_id=new_id) as floor:
        assert await floor.rows() == before
        assert "gw-1|line-3|unreachable" in floor.watch.unsettled()
        await floor.gone("belt-1")
        assert await floor.rows() == before
        await floor.gone("belt-2")
        await floor.time_goes(31)
        assert await floor.rows() == before
        assert "gw-1|line-3|unreachable" not in floor.watch.unsettled()
        await floor.status(device="belt-1")
        assert await floor.because() == {"belt-2|link|unreachable": "waits"}
    # Also one that waits goes on waiting, on the clock of the new boot.
    clock.reboot()
    async with site(tmp_path, clock, devices, new_id=new_id) as floor:
        await floor.time_goes(1)
        assert await floor.because() == {"belt-2|link|unreachable": "waits"}
        await floor.time_goes(31)
        assert await floor.because() == {"belt-2|link|unreachable": ""}


async def test_a_controller_explains_the_zones_that_it_feeds_and_they_wait_for_it(tmp_path: Path) -> None:
    """The zones publish over a broker of their own and are missed a little earlier."""
    clock = HandClock()
    zones = [belt(f"zone-{number}", bus=f"way-{number}", fed_by=["plc-1"]) for number in range(1, 7)]
    names = [zone.id for zone in zones]
    async with site(tmp_path, clock, [belt("plc-1", bus="plc"), *zones]) as floor:
        for name in (*names, "plc-1"):
            await floor.status(device=name)
        clock.go(1)
        await floor.gone(*names)
        clock.go(4)
        await floor.gone("plc-1")
        await floor.time_goes(26.5)
        # Declared and durable, but nobody is called: the controller is about to be declared too.
        assert await floor.because() == {f"{name}|link|unreachable": "waits" for name in names}
        await floor.time_goes(3.5)
        plc = "plc-1|link|unreachable"
        assert await floor.because() == {f"{name}|link|unreachable": plc for name in names} | {plc: ""}


async def test_a_zone_that_is_lost_alone_waits_for_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    devices = [belt("plc-1", bus="plc"), belt("zone-1", bus="way", fed_by=["plc-1"])]
    async with site(tmp_path, clock, devices) as floor:
        await floor.status(device="plc-1")
        await floor.gone("zone-1")
        await floor.time_goes(31)
        assert await floor.because() == {"zone-1|link|unreachable": ""}
        # What people have seen is not hidden again while the controller is only doubted.
        await floor.gone("plc-1")
        assert await floor.because() == {"zone-1|link|unreachable": ""}
        await floor.time_goes(31)
        assert (await floor.because())["zone-1|link|unreachable"] == "plc-1|link|unreachable"


async def test_a_zone_that_waited_for_a_controller_that_is_well_stands_up(tmp_path: Path) -> None:
    clock = HandClock()
    devices = [belt("plc-1", bus="plc"), belt("zone-1", bus="way", fed_by=["plc-1"])]
    async with site(tmp_path, clock, devices) as floor:
        await floor.gone("zone-1")
        clock.go(10)
        await floor.gone("plc-1")
        await floor.time_goes(21)
        assert await floor.because() == {"zone-1|link|unreachable": "waits"}
        await floor.status(device="plc-1")
        await floor.time_goes(10)
        assert await floor.because() == {"zone-1|link|unreachable": ""}


async def test_a_power_supply_that_reports_a_stop_explains_what_it_feeds(tmp_path: Path) -> None:
    clock = HandClock()
    devices = [belt("psu-1", bus="psu"), belt("zone-1", bus="way", fed_by=["psu-1"])]
    async with site(tmp_path, clock, devices) as floor:
        await floor.status(device="zone-1", jam=True)
        await floor.status(device="psu-1", jam=True)
        await floor.gone("zone-1")
        await floor.time_goes(31)
        # A jam is no silence: it is never explained away.
        assert await floor.because() == {
            "zone-1|belt|jam": "",
            "psu-1|belt|jam": "",
            "zone-1|link|unreachable": "psu-1|belt|jam",
        }


async def test_a_stop_that_comes_and_goes_explains_nothing_while_it_is_away(tmp_path: Path) -> None:
    clock = HandClock()
    devices = [belt("belt-1"), belt("belt-2", "line-4", fed_by=["belt-1"])]
    async with site(tmp_path, clock, devices) as floor:
        await floor.status(device="belt-2")
        for _ in range(3):
            await floor.status(jam=True)
            clock.go(1)
            await floor.status()
            clock.go(1)
        assert (await floor.rows())["belt-1|belt|jam"].is_paused
        await floor.gone("belt-2")
        await floor.time_goes(30)
        lost, jam = "belt-2|link|unreachable", "belt-1|belt|jam"
        assert (await floor.because())[lost] == ""
        await floor.status(jam=True)
        assert (await floor.because())[lost] == jam
        clock.go(1)
        await floor.status()
        assert (await floor.because())[lost] == "waits"


async def test_the_topmost_cause_is_named(tmp_path: Path) -> None:
    """The controller is behind an adapter with two buses; a zone elsewhere is fed by it."""
    clock = HandClock()
    devices = [
        belt("plc-1", bus="port-1"),
        belt("scanner-1", bus="port-2"),
        belt("scanner-2", bus="port-2"),
        belt("zone-1", bus="way", fed_by=["plc-1"]),
    ]
    adapters = {"port-1": "USB adapter FTDI_Quad_A1", "port-2": "USB adapter FTDI_Quad_A1", "way": ""}
    async with site(tmp_path, clock, devices, adapters) as floor:
        for device in devices:
            await floor.status(device=device.id)
        await floor.gone("zone-1", "scanner-1", "scanner-2", "plc-1")
        await floor.time_goes(31)
        top = "gw-1|adapter-usb-adapter-ftdi_quad_a1|unreachable"
        rows = await floor.because()
        assert rows.pop(top) == ""
        # The bus with two scanners is a part of it and needs no occurrence of its own.
        assert rows == {f"{device.id}|link|unreachable": top for device in devices}
        clock.go(1)
        await floor.status(device="scanner-1")
        await floor.status(device="scanner-2")
        await floor.time_goes(31)
        assert await floor.because() == {
            "plc-1|link|unreachable": "",
            "zone-1|link|unreachable": "plc-1|link|unreachable",
        }


async def test_a_bus_is_explained_by_its_adapter_and_goes_on_without_it(tmp_path: Path) -> None:
    clock = HandClock()
    devices = [belt("scanner-1", "port-1"), belt("scanner-2", "port-2"), belt("scanner-3", "port-2")]
    adapters = {"port-1": "Host 10.0.0.7", "port-2": "Host 10.0.0.7"}
    async with site(tmp_path, clock, devices, adapters) as floor:
        await floor.status(device="scanner-1")
        await floor.gone("scanner-2", "scanner-3")
        await floor.time_goes(31)
        top, bus = "gw-1|adapter-host-10.0.0.7|unreachable", "gw-1|port-2|unreachable"
        assert await floor.because() == {
            bus: "",
            "scanner-2|link|unreachable": bus,
            "scanner-3|link|unreachable": bus,
        }
        await floor.gone("scanner-1")
        await floor.time_goes(31)
        because = await floor.because()
        assert because.pop(top) == ""
        assert set(because.values()) == {top}
        await floor.status(device="scanner-1")
        assert await floor.because() == {
            bus: "waits",
            "scanner-2|link|unreachable": bus,
            "scanner-3|link|unreachable": bus,
        }
        await floor.time_goes(31)
        assert (await floor.because())[bus] == ""


async def test_a_bus_that_the_collector_closed_has_a_fresh_uid_and_its_devices_name_that(
    tmp_path: Path,
) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, [belt("belt-1"), belt("belt-2")]) as floor:
        await floor.gone("belt-1", "belt-2")
        await floor.time_goes(31)
        before = (await floor.rows())["gw-1|line-3|unreachable"]
        await floor.watch.close_here({before.uid})
        rows = await floor.rows()
        assert rows["gw-1|line-3|unreachable"].uid != before.uid
        assert (await floor.because())["belt-2|link|unreachable"] == "gw-1|line-3|unreachable"


async def test_what_hangs_together_otherwise_after_a_restart_is_explained_otherwise(tmp_path: Path) -> None:
    clock, new_id = HandClock(), ids()
    async with site(tmp_path, clock, [belt("belt-1"), belt("belt-2")], new_id=new_id) as floor:
        await floor.gone("belt-1", "belt-2")
        await floor.time_goes(31)
    apart = [belt("belt-1", bus="port-1"), belt("belt-2", bus="port-2", fed_by=["belt-1"])]
    async with site(tmp_path, clock, apart, new_id=new_id) as floor:
        assert await floor.because() == {
            "belt-1|link|unreachable": "waits",
            "belt-2|link|unreachable": "belt-1|link|unreachable",
        }
        await floor.time_goes(31)
        assert (await floor.because())["belt-1|link|unreachable"] == ""


async def test_a_bus_with_one_device_is_that_device(tmp_path: Path) -> None:
    clock = HandClock()
    async with site(tmp_path, clock, [belt("belt-1")]) as floor:
        await floor.gone("belt-1")
        await floor.time_goes(31)
        assert await floor.because() == {"belt-1|link|unreachable": ""}


@pytest.mark.parametrize(
    ("path", "adapter"),
    [
        ("/dev/serial/by-id/usb-FTDI_Quad_RS232-HS_FT1-if02-port0", "USB adapter FTDI_Quad_RS232-HS_FT1"),
        ("/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0", "USB adapter FTDI_FT232R_A50285BI"),
        (
            "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.2:1.3-port0",
            "USB adapter pci-0000:00:14.0-usb-0:1.2",
        ),
        ("/dev/ttyUSB0", ""),
        ("/dev/ttyS1", ""),
    ],
)
def test_ports_of_one_usb_adapter_are_known_by_their_names(path: str, adapter: str) -> None:
    assert port_adapter(path) == adapter


def test_hosts_are_adapters_and_this_machine_is_none() -> None:
    assert host_adapter("NPort-3.example.") == "Host nport-3.example"
    assert host_adapter("10.0.0.7") == "Host 10.0.0.7"
    assert [host_adapter(name) for name in ("localhost", "127.0.0.3", "::1")] == ["", "", ""]


def test_an_installer_is_told_what_will_be_one_ticket() -> None:
    devices = [belt("belt-1"), belt("belt-2"), belt("zone-1", bus="way", fed_by=["plc-1", "psu-1"])]
    assert roots.in_words(roots.tree(GATEWAY, devices, {})) == [
        "Bus line-3: one ticket for belt-1, belt-2",
        "zone-1 is fed by plc-1 and psu-1: silent with it, it needs no ticket of its own",
    ]


def test_devices_that_feed_each_other_in_a_ring_are_found() -> None:
    assert roots.ring({"a": ("b",), "b": ("c",), "c": ("b",)}) == ("b", "c", "b")
    assert roots.ring({"a": ("b", "c"), "b": ("c",)}) == ()


def test_a_tree_without_what_hangs_together_is_empty() -> None:
    assert roots.tree(GATEWAY, [belt("belt-1")], {}).devices == frozenset()
    assert Tree().devices == frozenset()

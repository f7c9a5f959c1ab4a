"""What hangs on one thing that is down is one ticket; what is still silent afterwards calls by itself."""

from __future__ import annotations

from pathlib import Path

from rigs import mosquitto
from rigs.warehouse import Json, Warehouse, warehouse

from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.mqtt_presence import MqttDevice
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.serving import Pty, Tcp

# Each is asked this often, so that a story is short.
QUICKLY = """
[device.set]
reads.status.every_s = 0.3
"""


def visible(tickets: list[Json]) -> list[str]:
    """Of what goes on, all that calls somebody."""
    return sorted(
        f"{one['device']} {one['component']}"
        for one in tickets
        if one["condition"] == "active" and not one["hidden"]
    )


def hidden(tickets: list[Json]) -> list[str]:
    return sorted(one["device"] for one in tickets if one["condition"] == "active" and one["hidden"])


async def calls(site: Warehouse, seen: list[str], hid: list[str]) -> None:
    await site.reader.eventually(
        lambda tickets: (visible(tickets), hidden(tickets)) == (seen, hid), f"visible {seen}, hidden {hid}"
    )


def drive(unit: int) -> str:
    return f"""
[[device]]
id = "drive-{unit:02}"
bus = "line-3"
profile = "powerflex-520"
unit = {unit}
{QUICKLY}"""


async def test_a_usb_adapter_with_ten_drives_is_unplugged_and_one_stays_dead(tmp_path: Path) -> None:
    port = tmp_path / "usb-rs485"
    line = PowerFlexLine(Pty(port), list(range(1, 11)))
    await line.start()
    names = [f"drive-{unit:02}" for unit in range(1, 11)]
    async with warehouse(tmp_path) as site:
        site.agent(
            f'[[bus]]\nname = "line-3"\ntransport = "modbus"\nmode = "rtu"\nport = "{port}"\nbaud = 115200\n'
            + "".join(map(drive, range(1, 11)))
        )
        line.set("motor_overload")
        await site.reader.ticket("drive-01", "overload", condition="active")
        line.set("motor_overload", False)
        await site.reader.ticket("drive-01", "overload", condition="cleared")
        await line.outlet.unplug()
        await calls(site, ["gw-1 line-3"], names)
        bus = await site.reader.ticket("gw-1", "unreachable", condition="active")
        told = await site.reader.get(f"/api/v1/tickets/{bus['id']}")
        assert [one["device"] for one in told["explains"]] == names
        assert told["title"] == "Bus line-3 cannot be reached (10 devices)"
        (occurrence,) = told["occurrences"]
        assert "unplugged?" in occurrence["evidence"]["why"][0]
        # Plugged in again, and the fourth has not survived it.
        line.set("4.mute")
        await line.outlet.replug()
        await calls(site, ["drive-04 link"], [])
        dead = await site.reader.ticket("drive-04", "unreachable", condition="active")
        told = await site.reader.get(f"/api/v1/tickets/{dead['id']}")
        reasons = [entry["reason"] for entry in told["history"]]
        assert reasons == ["opened", "explained", "stands_alone"]
        line.set("4.mute", False)
        await calls(site, [], [])
    await line.stop()


async def test_an_adapter_with_a_port_for_each_scanner_is_unplugged(tmp_path: Path) -> None:
    folder = tmp_path / "by-id"
    folder.mkdir()
    ports = [folder / f"usb-FTDI_Quad_RS232-HS_FT7-if{number:02}-port0" for number in range(3)]
    scanners = [LineScanner(Pty(port), every_s=0.1) for port in ports]
    for scanner in scanners:
        await scanner.start()
    names = [f"scanner-{number}" for number in range(3)]
    lines = "".join(
        f'[[bus]]\nname = "{name}"\ntransport = "serial"\nport = "{port}"\n'
        f'[[device]]\nid = "{name}"\nbus = "{name}"\nprofile = "line-scanner"\n'
        for name, port in zip(names, ports, strict=True)
    )
    async with warehouse(tmp_path) as site:
        site.agent(lines)
        for scanner in scanners:
            scanner.set("blind")
        await site.reader.ticket("scanner-2", "no-read-series", condition="active")
        for scanner in scanners:
            scanner.set("blind", False)
        await site.reader.eventually(lambda tickets: not visible(tickets), "all read well")
        for scanner in scanners:
            await scanner.outlet.unplug()
        await calls(site, ["gw-1 adapter-usb-adapter-ftdi_quad_rs232-hs_ft7"], names)
        for scanner in scanners:
            await scanner.outlet.replug()
        await calls(site, [], [])
    for scanner in scanners:
        await scanner.stop()


async def test_a_controller_dies_with_six_zones_and_then_the_broker_does(tmp_path: Path) -> None:
    broker = mosquitto.Broker(tmp_path / "broker").start()
    controller = ConveyLinx(Tcp())
    await controller.start()
    names = [f"zone-{number}" for number in range(1, 7)]
    zones = [MqttDevice(Broker(port=broker.port), name) for name in names]
    assert isinstance(controller.outlet, Tcp)
    lines = f"""
[[bus]]
name = "plc"
transport = "modbus"
host = "127.0.0.1"
port = {controller.outlet.port}
[[bus]]
name = "broker"
transport = "mqtt"
host = "127.0.0.1"
port = {broker.port}
[[device]]
id = "plc-3"
bus = "plc"
profile = "conveylinx"
""" + "".join(
        f"""
[[device]]
id = "{name}"
bus = "broker"
profile = "mqtt-presence"
topic = "{name}"
fed_by = ["plc-3"]
[device.set.conditions."presence/offline"]
on_delay_s = 1
"""
        for name in names
    )
    try:
        for zone in zones:
            await zone.start()
        async with warehouse(tmp_path) as site:
            site.agent(lines)
            controller.set("upstream_jam")
            await site.reader.ticket("plc-3", "jam", condition="active")
            controller.set("upstream_jam", False)
            await site.reader.ticket("plc-3", "jam", condition="cleared")
            await controller.outlet.unplug()
            for zone in zones:
                zone.set("power_cut")
            await calls(site, ["plc-3 link"], names)
            await controller.outlet.replug()
            for zone in zones:
                zone.set("power_cut", False)
            await calls(site, [], [])
            # The broker takes all of them with it, and no controller explains that.
            broker.stop()
            await calls(site, ["gw-1 broker"], names)
            broker.start()
            await calls(site, [], [])
        for zone in zones:
            await zone.stop()
    finally:
        broker.stop()
        await controller.stop()

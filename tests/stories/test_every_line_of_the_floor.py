"""One gateway, every kind of line: serial, TCP, Modbus TCP and RTU, MQTT; each fault becomes a ticket."""

from pathlib import Path

from rigs import mosquitto
from rigs.warehouse import warehouse

from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.mqtt_presence import MqttDevice
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.serving import Pty, Simulator, Tcp
from device_profiles.simulators.zebra_zpl import ZebraPrinter


def lines(folder: Path, printer_port: int, conveyor_port: int, broker_port: int) -> str:
    return f"""
[[bus]]
name = "printer"
transport = "tcp"
host = "127.0.0.1"
port = {printer_port}
[[bus]]
name = "scanner"
transport = "serial"
port = "{folder / "scanner"}"
[[bus]]
name = "conveyor"
transport = "modbus"
mode = "tcp"
host = "127.0.0.1"
port = {conveyor_port}
[[bus]]
name = "drives"
transport = "modbus"
mode = "rtu"
port = "{folder / "drives"}"
baud = 19200
[[bus]]
name = "broker"
transport = "mqtt"
host = "127.0.0.1"
port = {broker_port}

[[device]]
id = "printer-1"
bus = "printer"
profile = "zebra-zpl"
[[device]]
id = "scanner-1"
bus = "scanner"
profile = "line-scanner"
[[device]]
id = "conveyor-1"
bus = "conveyor"
profile = "conveylinx"
[[device]]
id = "drive-1"
bus = "drives"
profile = "powerflex-520"
unit = 7
[[device]]
id = "beacon-1"
bus = "broker"
profile = "mqtt-presence"
topic = "beacon-1"
[device.set.conditions."presence/offline"]
on_delay_s = 1
"""


async def test_a_fault_on_every_kind_of_line_is_a_ticket_and_ends_with_the_fault(tmp_path: Path) -> None:
    broker = mosquitto.Broker(tmp_path / "broker").start()
    try:
        printer = ZebraPrinter(Tcp())
        scanner = LineScanner(Pty(tmp_path / "scanner"), every_s=0.1)
        conveyor = ConveyLinx(Tcp())
        drives = PowerFlexLine(Pty(tmp_path / "drives"), [7])
        beacon = MqttDevice(Broker(port=broker.port), "beacon-1")
        floor: list[tuple[Simulator, str, str, str]] = [
            (printer, "head_open", "printer-1", "open"),
            (scanner, "blind", "scanner-1", "no-read-series"),
            (conveyor, "upstream_jam", "conveyor-1", "jam"),
            (drives, "motor_overload", "drive-1", "overload"),
            (beacon, "says_offline", "beacon-1", "offline"),
        ]
        for device, *_ in floor:
            await device.start()
        async with warehouse(tmp_path) as site:
            assert isinstance(printer.outlet, Tcp)
            assert isinstance(conveyor.outlet, Tcp)
            site.agent(lines(tmp_path, printer.outlet.port, conveyor.outlet.port, broker.port))
            for device, switch, *_ in floor:
                device.set(switch)
            for _, _, name, fault in floor:
                await site.reader.ticket(name, fault, condition="active")
            for device, switch, *_ in floor:
                device.set(switch, False)
            for _, _, name, fault in floor:
                await site.reader.ticket(name, fault, condition="cleared", work="resolved")
        for device, *_ in floor:
            await device.stop()
    finally:
        broker.stop()

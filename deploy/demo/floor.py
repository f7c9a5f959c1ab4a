"""The simulated warehouse: equipment on real protocols, and a shift in which things break and are mended.

The devices are those of ``agent.toml`` beside this file. The shift repeats; two faults stay until somebody
sees to them.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path

from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.mqtt import Broker
from device_profiles.simulators.mqtt_presence import MqttDevice
from device_profiles.simulators.powerflex_520 import PowerFlexLine
from device_profiles.simulators.serving import Pty, Simulator, Tcp
from device_profiles.simulators.zebra_zpl import ZebraPrinter

DRIVE_UNIT = 5
BROKER_WITHIN_S = 30


@dataclass(frozen=True, slots=True)
class Step:
    """At ``at_s`` of the shift the fault begins, ``for_s`` later it ends; 0: it stays."""

    at_s: float
    for_s: float
    device: str
    fault: str
    words: str


SHIFT_S = 150.0
SHIFT = (
    Step(4, 24, "printer-pack-1", "paper_out", "printer-pack-1 runs out of labels"),
    Step(10, 30, "conveyor-sort-1", "upstream_jam", "a box jams upstream of conveyor-sort-1"),
    Step(18, 40, "drive-lift-1", "motor_overload", "drive-lift-1 trips: motor overload"),
    Step(26, 40, "scanner-sort-1", "blind", "scanner-sort-1 reads nothing any more"),
    Step(40, 35, "gate-dock-8", "says_offline", "gate-dock-8 takes its leave from the broker"),
    Step(85, 20, "printer-pack-1", "head_open", "somebody opens the head of printer-pack-1"),
    Step(112, 25, "scanner-sort-1", "quiet", "scanner-sort-1 falls silent while the lift moves"),
    Step(100, 25, "conveyor-sort-1", "right_motor_stalled", "the right motor of conveyor-sort-1 stalls"),
)
# Begin once, at the first shift.
STANDING = (
    Step(
        6,
        0,
        "printer-dock-2",
        "ribbon_out",
        "printer-dock-2 runs out of ribbon; nobody is there to change it",
    ),
    Step(14, 0, "beacon-dock-7", "power_cut", "beacon-dock-7 loses its power; nobody is there to mend it"),
)


def equipment(
    folder: Path, *, printer_port: int, conveyor_port: int, broker_port: int
) -> dict[str, Simulator]:
    broker = Broker(port=broker_port)
    return {
        "printer-pack-1": ZebraPrinter(Pty(folder / "printer-pack-1")),
        "printer-dock-2": ZebraPrinter(Tcp(printer_port)),
        "scanner-sort-1": LineScanner(Pty(folder / "scanner-sort-1"), every_s=0.7, heartbeat_s=10),
        "conveyor-sort-1": ConveyLinx(Tcp(conveyor_port), box_every_s=2),
        "drive-lift-1": PowerFlexLine(Pty(folder / "drives"), [DRIVE_UNIT]),
        "beacon-dock-7": MqttDevice(broker, "beacon-dock-7"),
        "gate-dock-8": MqttDevice(broker, "gate-dock-8", style="json"),
    }


async def run(devices: dict[str, Simulator], broker_port: int) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await _wait_for_broker(broker_port)
    for device in devices.values():
        await device.start()
    _tell(f"{len(devices)} devices are in operation")
    shift = asyncio.create_task(_shifts(devices), name="shift")
    stop = asyncio.create_task(told.wait(), name="signals")
    await asyncio.wait((shift, stop), return_when=asyncio.FIRST_COMPLETED)
    for task in (shift, stop):
        task.cancel()
    outcomes = await asyncio.gather(shift, stop, return_exceptions=True)
    for device in devices.values():
        await device.stop()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _shifts(devices: dict[str, Simulator]) -> None:
    steps = (*SHIFT, *STANDING)
    while True:
        turns = sorted(
            [(step.at_s, step, True) for step in steps]
            + [(step.at_s + step.for_s, step, False) for step in steps if step.for_s],
            key=lambda turn: turn[0],
        )
        gone_s = 0.0
        for at_s, step, begins in turns:
            await asyncio.sleep(at_s - gone_s)
            gone_s = at_s
            devices[step.device].set(step.fault, begins)
            _tell(step.words if begins else f"{step.device} is well again")
        await asyncio.sleep(SHIFT_S - gone_s)
        steps = SHIFT


async def _wait_for_broker(port: int) -> None:
    async with asyncio.timeout(BROKER_WITHIN_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def _tell(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The demo's equipment.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--printer-port", type=int, required=True)
    parser.add_argument("--conveyor-port", type=int, required=True)
    parser.add_argument("--broker-port", type=int, required=True)
    options = parser.parse_args()
    devices = equipment(
        options.folder,
        printer_port=options.printer_port,
        conveyor_port=options.conveyor_port,
        broker_port=options.broker_port,
    )
    asyncio.run(run(devices, options.broker_port))


if __name__ == "__main__":
    main()

"""Records the traces of this folder anew from our simulators: PYTHONPATH=.:tests python -m traces [NAME]"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from device_profiles.simulators.conveylinx import ConveyLinx
from device_profiles.simulators.line_scanner import LineScanner
from device_profiles.simulators.serving import Pty, Tcp
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent import config, record, replay, trace_case, trace_file

FOLDER = Path(__file__).parent
MAX_BYTES = 1 << 20

Scene = Callable[[Path, "Recorder"], Awaitable[None]]


class Recorder:
    """Records while ``story`` is told."""

    async def of(self, folder: Path, tables: str, story: Callable[[], Awaitable[None]]) -> None:
        file = folder / "agent.toml"
        file.write_text(
            f'[agent]\nsite = "north"\ngateway = "gw-1"\ndata_dir = "{folder}"\n'
            f"unreachable_after_s = 2\n{tables}"
        )
        told = asyncio.Event()
        recording = asyncio.create_task(
            record.record(
                config.load(file),
                folder / trace_case.TRACE,
                seconds=None,
                max_bytes=MAX_BYTES,
                told=told,
                tell=lambda _: None,
            )
        )
        await story()
        told.set()
        await recording


async def a_jam(folder: Path, recorder: Recorder) -> None:
    module = ConveyLinx(Tcp(), box_every_s=1)
    await module.start()

    async def story() -> None:
        await asyncio.sleep(3)
        module.set("upstream_jam")
        await asyncio.sleep(6)
        module.set("upstream_jam", False)
        await asyncio.sleep(4)

    assert isinstance(module.outlet, Tcp)
    await recorder.of(
        folder,
        f"""
        [[bus]]
        name = "line-3"
        transport = "modbus"
        host = "127.0.0.1"
        port = {module.outlet.port}
        [[device]]
        id = "zone-31"
        bus = "line-3"
        profile = "conveylinx"
        place = "sorter/line-3/zone-31"
        """,
        story,
    )
    await module.stop()


async def a_printer_out_of_paper(folder: Path, recorder: Recorder) -> None:
    printer = ZebraPrinter(Pty(folder / "printer"))
    await printer.start()

    async def story() -> None:
        await asyncio.sleep(3)
        printer.set("paper_out")
        await asyncio.sleep(6)
        # Somebody opens the head to load labels.
        printer.set("head_open")
        await asyncio.sleep(3)
        printer.set("head_open", False)
        printer.set("paper_out", False)
        await asyncio.sleep(5)

    await recorder.of(
        folder,
        f"""
        [[bus]]
        name = "printer-4"
        transport = "serial"
        port = "{folder / "printer"}"
        [[device]]
        id = "printer-4"
        bus = "printer-4"
        profile = "zebra-zpl"
        place = "packing/line-1/station-4"
        [device.set]
        reads.status.every_s = 1
        reads.errors.every_s = 1
        """,
        story,
    )
    await printer.stop()


async def a_scanner_that_goes_silent(folder: Path, recorder: Recorder) -> None:
    scanner = LineScanner(Tcp(), every_s=0.5)
    await scanner.start()

    async def story() -> None:
        await asyncio.sleep(4)
        scanner.set("quiet")
        await asyncio.sleep(8)
        scanner.set("quiet", False)
        await asyncio.sleep(3)

    assert isinstance(scanner.outlet, Tcp)
    await recorder.of(
        folder,
        f"""
        [[bus]]
        name = "scanner-1"
        transport = "tcp"
        host = "127.0.0.1"
        port = {scanner.outlet.port}
        [[device]]
        id = "scanner-1"
        bus = "scanner-1"
        profile = "line-scanner"
        [device.set.conditions."reader/gone-quiet"]
        when.no_data_s.s = 5
        """,
        story,
    )
    await scanner.stop()


async def a_bus_that_dies(folder: Path, recorder: Recorder) -> None:
    printer = ZebraPrinter(Pty(folder / "printer"))
    await printer.start()

    async def story() -> None:
        await asyncio.sleep(3)
        printer.set("ribbon_out")
        await asyncio.sleep(4)
        await printer.outlet.unplug()
        await asyncio.sleep(6)
        printer.set("ribbon_out", False)
        await printer.outlet.replug()
        await asyncio.sleep(6)

    await recorder.of(
        folder,
        f"""
        [[bus]]
        name = "printer-5"
        transport = "serial"
        port = "{folder / "printer"}"
        [[device]]
        id = "printer-5"
        bus = "printer-5"
        profile = "zebra-zpl"
        [device.set]
        reads.status.every_s = 1
        reads.errors.every_s = 1
        """,
        story,
    )
    await printer.stop()


SCENES: dict[str, Scene] = {
    "a-jam": a_jam,
    "a-printer-out-of-paper": a_printer_out_of_paper,
    "a-scanner-that-goes-silent": a_scanner_that_goes_silent,
    "a-bus-that-dies": a_bus_that_dies,
}


async def make(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await SCENES[name](Path(folder), Recorder())
        file = Path(folder) / trace_case.TRACE
        rules = trace_file.opened(file).header
        played = await replay.play(trace_file.opened(file), rules)
        trace_case.write(FOLDER / name, file, played)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SCENES:
        asyncio.run(make(wanted))

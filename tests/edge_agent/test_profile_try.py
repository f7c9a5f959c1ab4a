"""`edge-agent profile try`: a profile at work, on a stand-in made of its examples and on a device."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from rigs.commands import typed, typed_here
from rigs.mosquitto import Broker
from rigs.pty import Line

from device_profiles.simulators.generic_modbus import SomeDevice
from device_profiles.simulators.serving import Pty, Tcp
from device_profiles.simulators.zebra_zpl import ZebraPrinter
from edge_agent import profile_draft, stand_in
from edge_agent.config import shipped_profiles

FOLDER = shipped_profiles()


def filled_in(name: str, transport: str) -> str:
    return re.sub(r"TODO:?", "as found:", profile_draft.draft(name, transport))


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("transport", stand_in.TRANSPORTS)
async def test_a_draft_can_be_tried_before_anything_is_filled_in(transport: str, tmp_path: Path) -> None:
    file = written(tmp_path, "acme", profile_draft.draft("acme", transport))
    said = await typed("profile", "try", file, "--simulate", "--transport", transport)
    assert f"acme: 2 examples over {transport}" in said
    assert said.count("not raised, raised, cleared") == 2
    assert "acme: no problems." in said


@pytest.mark.parametrize(
    ("kind", "said"), [("ipp", "device that speaks ipp"), ("sparkplug", "Sparkplug node")]
)
async def test_for_what_nobody_stands_in_that_is_said(kind: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, "acme", profile_draft.draft("acme", kind))
    told = await typed("profile", "try", file, "--simulate", code=2)
    assert f"nobody stands in for a {said}" in told
    assert "try it on a real one" in told


@pytest.mark.parametrize("name", ["line-scanner", "mqtt-presence", "homie"])
async def test_every_example_of_a_shipped_profile_comes_true_over_a_real_line(name: str) -> None:
    """Series of 20 steps, presets, silence, a broker. The others: `make try-profiles`."""
    said = await typed("profile", "try", FOLDER / f"{name}.yaml", "--simulate")
    assert f"{name}: no problems." in said


async def test_an_example_that_is_not_true_is_told_with_what_came(tmp_path: Path) -> None:
    text = filled_in("acme", "tcp").replace('trips: {status: ["1,0,12.0"]}', 'trips: {status: ["1,0,9.0"]}')
    said = await typed("profile", "try", written(tmp_path, "acme", text), "--simulate", code=1)
    assert "examples[0] device/faulted: not raised, raised, cleared" in said
    assert "examples[1] motor/overload: what trips it does not raise it\n      status: 1,0,9.0" in said
    assert "acme: 1 problem." in said


async def test_what_only_a_real_line_shows_is_found(tmp_path: Path) -> None:
    """The examples alone are true; but the device would have to answer with a second line."""
    text = filled_in("acme", "tcp").replace("frames: 1", "frames: 2")
    file = written(tmp_path, "acme", text)
    await typed("profile", "check", file)
    said = await typed("profile", "try", file, "--simulate", code=1)
    assert "wrong answer, 1 of 2 frames came" in said


async def test_nobody_stands_in_for_what_cannot_be_simulated(tmp_path: Path) -> None:
    said = await typed("profile", "try", FOLDER / "ipp-printer.yaml", "--simulate", code=2)
    assert "nobody stands in for a device that speaks ipp" in said
    said = await typed("profile", "try", FOLDER / "sparkplug-b.yaml", "--simulate", code=2)
    assert "nobody stands in for a Sparkplug node" in said
    said = await typed(
        "profile", "try", FOLDER / "line-scanner.yaml", "--simulate", "--transport", "mqtt", code=2
    )
    assert "profile line-scanner speaks serial, tcp, not mqtt" in said


# --- on a device --------------------------------------------------------------------------------------------


async def test_a_device_is_read_and_shown_raw_decoded_and_judged(tmp_path: Path) -> None:
    printer = ZebraPrinter(Pty(tmp_path / "printer"))
    await printer.start()
    printer.set("paper_out")
    said = await typed(
        *("profile", "try", FOLDER / "zebra-zpl.yaml", "--port", tmp_path / "printer", "--seconds", "4")
    )
    await printer.stop()
    assert "reading serial" in said
    assert re.search(r"^  status: 030,1,0,", said, re.MULTILINE)
    assert re.search(r"^  paper_out +true +good$", said, re.MULTILINE)
    assert re.search(r"^  media/paper-out +RAISED +stop +Labels are out$", said, re.MULTILINE)
    assert re.search(r"^  ribbon/ribbon-out +not raised", said, re.MULTILINE)
    # The printer's password.
    assert "[redacted],0" in said


async def test_nothing_is_sent_but_what_the_profile_asks(tmp_path: Path) -> None:
    line = Line(tmp_path / "device").plug()
    file = written(tmp_path, "acme", filled_in("acme", "serial"))
    said = await typed("profile", "try", file, "--port", line.path, "--seconds", "3", code=1)
    line.unplug()
    assert bytes(line.heard).replace(b"STATUS?\r\n", b"") == b""
    assert line.heard
    assert "status: no answer, nothing came within 2 s" in said
    assert "So nothing is known of its signals and conditions." in said


async def test_a_modbus_device_is_read_over_a_serial_line_with_its_settings(tmp_path: Path) -> None:
    device = SomeDevice(Pty(tmp_path / "device"))
    await device.start()
    said = await typed(
        *("profile", "try", FOLDER / "generic-modbus.yaml", "--port", tmp_path / "device"),
        *("--bus", "baud=19200", "--bus", "parity=E", "--seconds", "2"),
    )
    await device.stop()
    assert "19200 baud 8E1" in said
    assert re.search(r"^  value +[0-9.]+ +good$", said, re.MULTILINE)


async def test_a_device_at_a_broker_is_heard_and_leaves_no_session_behind(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker").start()
    await asyncio.to_thread(broker.publish, "tele/lamp/LWT", "Online", retain=True)
    try:
        said = await typed(
            *("profile", "try", FOLDER / "mqtt-presence.yaml", "--host", "127.0.0.1", "--port", broker.port),
            *("--topic", "lamp", "--seconds", "2"),
        )
    finally:
        broker.stop()
    assert re.search(r"^  online +true +uncertain: kept by the broker", said, re.MULTILINE)
    saved = (tmp_path / "broker" / "mosquitto.db").read_bytes()
    assert b"tele/lamp/LWT" in saved
    assert b"andon-" not in saved


async def test_a_draft_is_put_to_no_device(tmp_path: Path) -> None:
    """What nobody has found in a manual is not asked."""
    line = Line(tmp_path / "device").plug()
    file = written(tmp_path, "acme", profile_draft.draft("acme", "serial"))
    said = await typed("profile", "try", file, "--port", line.path, "--seconds", "2", code=2)
    line.unplug()
    assert f"{file} is a draft; nothing is asked of a device before it is filled in" in said
    assert not line.heard


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected: --simulate, or the device: --port"),
        (["--host", "127.0.0.1"], "bus[0].port: missing"),
        (["--port", "/dev/ttyS0", "--bus", "baud"], "--bus baud: KEY=VALUE is expected"),
        (["--port", "/dev/ttyS0", "--bus", "bawd=9600"], "bus[0].bawd: unknown key; expected one of"),
        (["--port", "/dev/ttyS0", "--preset", "x"], "there is no preset 'x'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(words: list[str], said: str) -> None:
    assert said in typed_here("profile", "try", FOLDER / "zebra-zpl.yaml", *words, code=2)


async def test_a_device_that_is_not_there_is_exit_code_1() -> None:
    outlet = Tcp()
    await outlet.start(lambda: lambda _: b"")
    port = outlet.port
    await outlet.stop()
    said = await typed(
        *(
            "profile",
            "try",
            FOLDER / "zebra-zpl.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--seconds",
            "1",
        ),
        code=1,
    )
    assert "refuses the connection: the service there is not running" in said

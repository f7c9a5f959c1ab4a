"""`make run`: a visitor sees tickets come and go by themselves, and Ctrl-C leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from rigs.ports import free_port, listens, wait_until_now

PATIENCE_S = 90.0


class Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.parent / "demo.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.demo"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ANDON_DEMO_DIR": str(folder), "ANDON_DEMO_PORT": "0"},
                # A script that starts a program in its background does the same.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def printed(self, pattern: str) -> str:
        wait_until_now(lambda: re.search(pattern, self.said()), PATIENCE_S, f"{pattern} in {self.said()}")
        found = re.search(pattern, self.said())
        assert found
        return found[1]

    def tickets(self) -> list[dict[str, object]]:
        url = self.printed(r"Open (http://127\.0\.0\.1:\d+)")
        token = self.printed(r"API token \(read-only\): (atk_\S+)")
        answer = httpx.get(
            f"{url}/api/v1/tickets", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        answer.raise_for_status()
        found: list[dict[str, object]] = answer.json()["items"]
        return found

    def left_behind(self) -> list[str]:
        """Programs that still carry the folder of this demo in their environment."""
        mark = f"ANDON_DEMO_DIR={self.folder}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo")
    yield demo
    if demo.process.poll() is None:
        demo.process.kill()
    demo.process.wait()


@pytest.mark.timeout(300)
def test_tickets_come_and_go_by_themselves_and_an_interrupt_leaves_nothing(demo: Demo) -> None:
    wait_until_now(lambda: _devices(demo, "active") >= {"printer-dock-2", "conveyor-sort-1"}, PATIENCE_S)
    wait_until_now(lambda: _devices(demo, "cleared"), PATIENCE_S, "a fault ends by itself")
    # Serial line, TCP, Modbus TCP, Modbus RTU, MQTT.
    everything = {"printer-pack-1", "printer-dock-2", "conveyor-sort-1", "drive-lift-1", "beacon-dock-7"}
    wait_until_now(lambda: _devices(demo) >= everything, PATIENCE_S, "each transport has raised something")

    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0, demo.said()
    assert demo.left_behind() == []
    assert "\x1b" not in demo.said(), "no colours off a terminal"


@pytest.mark.timeout(300)
def test_a_supervisor_that_is_killed_takes_its_programs_along(demo: Demo) -> None:
    demo.printed(r"(Ctrl-C stops everything)")
    demo.process.kill()
    demo.process.wait()
    wait_until_now(lambda: not demo.left_behind(), what=f"{demo.left_behind()}")


@pytest.mark.timeout(300)
def test_a_second_run_keeps_the_tickets_and_a_second_demo_on_the_folder_is_refused(demo: Demo) -> None:
    wait_until_now(lambda: _devices(demo), PATIENCE_S)
    token = demo.printed(r"API token \(read-only\): (atk_\S+)")
    before = {str(ticket["id"]) for ticket in demo.tickets()}

    refused = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        env={**os.environ, "ANDON_DEMO_DIR": str(demo.folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "another demo is running" in refused.stderr

    demo.process.terminate()
    assert demo.process.wait(30) == 0
    again = Demo(demo.folder)
    try:
        assert again.printed(r"API token \(read-only\): (atk_\S+)") == token
        assert before <= {str(ticket["id"]) for ticket in again.tickets()}
        again.process.terminate()
        assert again.process.wait(30) == 0
    finally:
        if again.process.poll() is None:
            again.process.kill()
            again.process.wait()


@pytest.mark.parametrize("port", ["84x", "99999", "", "-1"])
def test_what_is_no_port_is_said_in_one_line(tmp_path: Path, port: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        env={**os.environ, "ANDON_DEMO_DIR": str(tmp_path), "ANDON_DEMO_PORT": port},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert (
        refused.stderr
        == f"ANDON_DEMO_PORT: {port!r} is not a port, expected 1 to 65535, or 0 for a free one\n"
    )


def test_where_mosquitto_is_missing_the_embedded_broker_keeps_a_retained_word() -> None:
    port = free_port()
    broker = subprocess.Popen([sys.executable, "-m", "deploy.demo.broker", str(port)])
    heard: list[tuple[str, bytes, bool]] = []
    try:
        wait_until_now(lambda: listens(port), what="the embedded broker listens")
        first = _client(port, "first")
        first.publish("tele/x/LWT", "Online", qos=1, retain=True).wait_for_publish(10)
        second = _client(port, "second")
        second.on_message = lambda _client, _userdata, message: heard.append(
            (message.topic, message.payload, message.retain)
        )
        second.subscribe("tele/+/LWT", qos=1)
        wait_until_now(lambda: heard, what="the retained word")
        assert heard == [("tele/x/LWT", b"Online", True)]
        for client in (first, second):
            client.disconnect()
            client.loop_stop()
    finally:
        broker.terminate()
        broker.wait(20)


def _client(port: int, name: str) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.connect("127.0.0.1", port)
    client.loop_start()
    end = time.monotonic() + 20
    while not client.is_connected():
        assert time.monotonic() < end
        time.sleep(0.01)
    return client


def _devices(demo: Demo, *conditions: str) -> set[str]:
    try:
        tickets = demo.tickets()
    except httpx.TransportError:
        return set()
    return {str(t["device"]) for t in tickets if not conditions or t["condition"] in conditions}

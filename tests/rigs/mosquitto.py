"""A real mosquitto on a free port, with TLS and passwords if wanted; stopped, killed and started at will."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import trustme
from paho.mqtt.enums import CallbackAPIVersion
from rigs.ports import free_port, listens, wait_until, wait_until_now
from rigs.readings import Readings

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
PASSWD = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/local/bin")


class Broker:
    """``users`` (name to password) closes it to strangers; ``tls`` is a CA of trustme."""

    def __init__(
        self,
        folder: Path,
        *,
        users: dict[str, str] | None = None,
        tls: trustme.CA | None = None,
        more: str = "",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.users = users or {}
        self.ca_file = folder / "ca.pem"
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            # It would give up its rights and then not read its files when the tests run as root.
            "user root",
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            f"allow_anonymous {'false' if users else 'true'}",
            more,
        ]
        if users:
            self.set_users(folder / "passwords", users)
            lines.append(f"password_file {folder / 'passwords'}")
        if tls:
            tls.cert_pem.write_to_path(self.ca_file)
            made = tls.issue_cert("127.0.0.1", "localhost")
            made.private_key_pem.write_to_path(folder / "key.pem")
            made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
            lines += [f"certfile {folder / 'cert.pem'}", f"keyfile {folder / 'key.pem'}"]
        self._tls = tls is not None
        self._config.write_text("\n".join(lines) + "\n")

    @staticmethod
    def set_users(file: Path, users: dict[str, str]) -> None:
        assert PASSWD, "mosquitto_passwd is not installed"
        file.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        file.chmod(0o600)
        subprocess.run([PASSWD, "-U", file], check=True)

    def start(self) -> Broker:
        assert PROGRAM, "mosquitto is not installed"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", self._config], stdout=log, stderr=log)
        wait_until_now(self._ready, what=f"mosquitto: {self._log}")
        return self

    def stop(self) -> None:
        """In order: it saves sessions and retained messages."""
        self._end(kill=False)

    def kill(self) -> None:
        self._end(kill=True)

    def publish(
        self, topic: str, payload: str | bytes, *, qos: int = 1, retain: bool = False, timeout_s: float = 30
    ) -> None:
        """From a client of its own; returns when the broker has it."""
        with self.client() as client:
            client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(timeout_s)

    async def reaches(self, readings: Readings, topic: str) -> None:
        """Returns once what is published there arrives, and forgets all that did. The link is told to be up
        when the subscription is on its way; probes show that it is there.
        """
        while not readings.payloads():
            await asyncio.to_thread(self.publish, topic, "probe")
        await asyncio.to_thread(self.publish, topic, "last probe")
        await wait_until(lambda: (b"last probe",) in readings.payloads())
        readings.clear()

    @contextmanager
    def client(self, *, will: tuple[str, str] | None = None) -> Iterator[paho.Client]:
        """Somebody else's client; leaving says goodbye in order, so that no will is sent."""
        client = paho.Client(CallbackAPIVersion.VERSION2)
        if self._tls:
            client.tls_set(str(self.ca_file), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if self.users:
            client.username_pw_set(*next(iter(self.users.items())))
        if will:
            client.will_set(*will, qos=1, retain=True)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        try:
            yield client
        finally:
            client.disconnect()
            client.loop_stop()

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return listens(self.port)

    def _end(self, *, kill: bool) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(30)
        self._process = None

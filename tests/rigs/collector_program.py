"""The real collector as a program of its own on a free port, and a gateway that syncs with it over HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rigs.edge_voice import MINUTE_MS, MONDAY_MS, EdgeVoice

from collector import auth
from collector.exchange import GatewayIdentity
from collector.ingest import Applied
from edge_agent import wire

PASSWORD = "correct horse battery"
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0


@dataclass
class CollectorProgram:
    """``url`` as it printed it."""

    process: subprocess.Popen[str]
    data_dir: Path
    url: str
    # What it printed until it listened.
    said: str

    def log(self) -> str:
        return self.data_dir.with_name(f"{self.data_dir.name}.log").read_text()

    def command(self, *words: str, text: str | None = None) -> str:
        """Another ``collector ...`` on the same data directory, while the server runs."""
        return run(self.data_dir, *words, text=text)


def run(data_dir: Path, *words: str, text: str | None = None) -> str:
    """What the command printed. Raises CalledProcessError."""
    command = [sys.executable, "-m", "collector", *words, "--data-dir", str(data_dir)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


@contextlib.contextmanager
def collector_program(
    data_dir: Path, *flags: str, environment: dict[str, str] | None = None
) -> Iterator[CollectorProgram]:
    """Stopped by SIGTERM at the end, which it must survive with exit code 0."""
    log = data_dir.parent / f"{data_dir.name}.log"
    command = [sys.executable, "-m", "collector", "serve", "--data-dir", str(data_dir), *flags]
    if "--listen" not in flags:
        command += ["--listen", "127.0.0.1:0"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | (environment or {}),
        )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        found = re.search(r"(https?://\S+) \(desk\)", first)
        assert found is not None, f"{first!r}: {log.read_text()}"
        yield CollectorProgram(process=process, data_dir=data_dir, url=found[1], said=first)
        process.terminate()
        assert process.wait(STOP_WITHIN_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


class SpeakingGateway:
    """Enrolled over HTTP; ``voice`` says what it has to report, ``sync`` sends it."""

    def __init__(self, collector: CollectorProgram, *, site: str = "north", name: str = "gw1") -> None:
        printed = collector.command("gateway", "add", site, name)
        token = next(word for word in printed.split() if word.startswith("enr_"))
        secret = auth.new_secret()
        self._client = httpx.Client(base_url=collector.url, trust_env=False, timeout=30)
        answer = self._client.post(
            wire.ENROLL_PATH, json={"token": token, "secret_hash": auth.sha256(secret)}
        )
        answer.raise_for_status()
        self.credential = f"{answer.json()['credential']}.{secret}"
        self._client.headers["Authorization"] = f"Bearer {self.credential}"
        self.voice = EdgeVoice(gateway=GatewayIdentity(id="", site=site, name=name), seed=hash(name))

    @property
    def minute(self) -> float:
        """The voice counts minutes after its Monday; the collector's clock is the real one."""
        return (time.time() * 1000 - MONDAY_MS) / MINUTE_MS

    def sync(self) -> wire.SyncAnswer:
        return wire.decode_answer(self.try_to_sync().raise_for_status().content)

    def try_to_sync(self) -> httpx.Response:
        """Refused or not."""
        message = self.voice.message(self.minute)
        answer = self._client.post(wire.SYNC_PATH, content=wire.encode(message))
        if answer.is_success:
            self.voice.hear(Applied(answer=wire.decode_answer(answer.content), changed=()))
        return answer

    def tell_evidence(self, *parts: dict[str, Any]) -> list[str]:
        body = {"v": 1, "lane": wire.EVIDENCE_LANE, "parts": parts}
        headers = {wire.LANE_HEADER: wire.EVIDENCE_LANE}
        answer = self._client.post(wire.SYNC_PATH, json=body, headers=headers).raise_for_status()
        return wire.decode_evidence_answer(answer.content).outcomes

    def close(self) -> None:
        self._client.close()

"""A printer that speaks IPP (network printers, CUPS): asked for its attributes, which changes nothing on it.

Each question is an HTTP request on a connection of its own: printers end idle ones as they like, and what
comes on it can only be its answer. What the printer says is handed on as JSON, each attribute with the list
of its values.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Annotated, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import Field, field_validator

from edge_agent import ipp
from edge_agent.bus import Bus, LinkError, RefusedError
from edge_agent.device import Device
from edge_agent.poll import Line
from edge_agent.profile import IppRead
from edge_agent.sample import Again, Deliver, Trouble
from edge_agent.schedule import Schedule
from edge_agent.transports import BusSettings
from edge_agent.transports.tcp import CONNECT_TIMEOUT_S
from edge_agent.unreached import behind, explain
from edge_agent.wire import Stamp

DEFAULT_PORT = 631


class Settings(BusSettings):
    transport: Literal["ipp"] = "ipp"
    uri: Annotated[
        str, Field(max_length=255, description="the printer, such as ipp://printer-7.example/ipp/print")
    ]
    ca_file: Annotated[
        Path | None, Field(description="PEM of the CA that signed the printer's certificate; ipps alone")
    ] = None

    @field_validator("uri")
    @classmethod
    def _is_one(cls, uri: str) -> str:
        try:
            parts = urlsplit(uri)
            sound = parts.scheme in ("ipp", "ipps") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound or not uri.isascii() or not uri.isprintable() or " " in uri:
            raise ValueError(
                "expected: ipp:// or ipps://, a host, perhaps :port, and a path such as /ipp/print"
            )
        return uri

    def check(self, devices: Sequence[Device]) -> None:
        if len(devices) > 1:
            names = ", ".join(device.id for device in devices)
            raise ValueError(f"{names}: a uri is one printer; give each a bus of its own")

    @property
    def line(self) -> Line:
        return Line(words=f"IPP {self.uri}")

    @property
    def url(self) -> str:
        """RFC 8010, 4: the same over HTTP, at port 631 where none is said."""
        parts = urlsplit(self.uri)
        assert parts.hostname is not None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        scheme = "https" if parts.scheme == "ipps" else "http"
        query = f"?{parts.query}" if parts.query else ""
        return f"{scheme}://{host}:{parts.port or DEFAULT_PORT}{parts.path or '/'}{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    device: str
    read: str
    attributes: tuple[str, ...]
    every_s: float
    timeout_s: float


class Transport(Bus):
    """Raises ValueError as ``Settings.check`` does."""

    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(settings.name, devices, deliver, stamp, again=again, clock=clock, random=random)
        settings.check(self.devices)
        self._settings = settings
        self._questions = [
            Question(
                device=device.id,
                read=name,
                attributes=read.attributes,
                every_s=read.every_s,
                timeout_s=read.timeout_s,
            )
            for device in self.devices
            for name, read in device.profile.reads.items()
            if isinstance(read, IppRead)
        ]

    async def run(self) -> None:
        if self._questions:
            await self.keep(self._session)

    async def _session(self) -> None:
        schedule = Schedule(self._questions, now=self.clock(), random=self.random)
        is_open = False
        async with _client(self._settings) as client:
            while (turn := schedule.next()) is not None:
                due, question = turn
                await asyncio.sleep(due - self.clock())
                schedule.asked(question, self.clock())
                answer = await self._ask(client, question)
                if not is_open:
                    # There is no link but the one of each request.
                    is_open = True
                    await self.opened()
                await self.believe()
                await self._tell(question, answer)

    async def _tell(self, question: Question, answer: bytes | tuple[Trouble, str]) -> None:
        if isinstance(answer, bytes):
            try:
                found = ipp.answered(answer, question.attributes)
            except ipp.IppError as error:
                answer = (Trouble.WRONG_ANSWER, str(error))
            else:
                payload = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
                await self.tell(question.device, question.read, payload=(payload,))
                return
        trouble, detail = answer
        await self.tell(question.device, question.read, trouble=trouble, detail=detail)

    async def _ask(self, client: httpx.AsyncClient, question: Question) -> bytes | tuple[Trouble, str]:
        """The body of the answer, or why there is none. Raises LinkError, RefusedError."""
        where = self._settings.uri
        body = ipp.question(self._settings.uri, question.attributes)
        wait = httpx.Timeout(question.timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            # A printer that says a byte now and then would hold us for ever.
            async with (
                asyncio.timeout(CONNECT_TIMEOUT_S + question.timeout_s),
                client.stream("POST", self._settings.url, content=body, timeout=wait) as reply,
            ):
                if reply.status_code != httpx.codes.OK:
                    return Trouble.WRONG_ANSWER, f"HTTP {reply.status_code} {reply.reason_phrase}"
                return await _body(reply)
        except (httpx.ReadTimeout, httpx.WriteTimeout, TimeoutError):
            return Trouble.NO_ANSWER, f"no whole answer came within {question.timeout_s:g} s"
        except (httpx.HTTPError, OSError) as error:
            kind = RefusedError if isinstance(behind(error), ssl.SSLError) else LinkError
            raise kind(explain(where, error, ca_file=self._settings.ca_file)) from error


def _client(settings: Settings) -> httpx.AsyncClient:
    """Raises RefusedError for a file that is no certificate."""
    try:
        file = settings.ca_file
        context = _context(file, file.stat().st_mtime_ns if file else 0)
    except (OSError, ValueError) as error:
        raise RefusedError(f"{settings.ca_file} is not a PEM certificate file: {error}") from error
    return httpx.AsyncClient(
        verify=context,
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
        # What is not compressed cannot explode.
        headers={"Content-Type": ipp.CONTENT_TYPE, "Accept-Encoding": "identity", "Connection": "close"},
    )


@lru_cache(maxsize=16)
def _context(ca_file: Path | None, changed_ns: int) -> ssl.SSLContext:  # noqa: ARG001  the key of the cache
    """Reading a bundle takes some tens of ms of the loop, and a printer may be tried for nights. A file that
    was replaced is read anew.
    """
    return ssl.create_default_context(cafile=ca_file)


async def _body(reply: httpx.Response) -> bytes:
    """As much as is looked at, and one byte more where there is more."""
    body = b""
    async for chunk in reply.aiter_raw():
        body = (body + chunk)[: ipp.MAX_ANSWER_BYTES + 1]
        if len(body) > ipp.MAX_ANSWER_BYTES:
            break
    return body

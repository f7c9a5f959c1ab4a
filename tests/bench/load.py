"""Many gateways that speak over HTTP at once, in a process of their own, as cheap as can be."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop
from bench.rows import UP_MS, Voice

from edge_agent import post, wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``credentials`` are bearer tokens, one for each voice."""

    host: str
    port: int
    voices: Sequence[Voice]
    credentials: Sequence[str]
    # As agents do, which costs this process more than all else.
    packed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    seconds: float
    requests: int
    # Of each request, in the order of their ends.
    took_ms: tuple[float, ...]


def run(*loads: Load) -> Heard:
    """In another process, all at once. Raises AssertionError when anything but a sync that was taken is
    answered.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run, loads)


def _run(*loads: Load) -> Heard:
    return uvloop.run(_speak_all(loads))


async def _speak_all(loads: Sequence[Load]) -> Heard:
    began_ns = time.monotonic_ns()
    lines = [
        [await asyncio.open_connection(load.host, load.port, limit=1 << 20) for _ in load.voices]
        for load in loads
    ]
    took: list[float] = []
    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for load, connections in zip(loads, lines, strict=True):
            for voice, credential, line in zip(load.voices, load.credentials, connections, strict=True):
                group.create_task(_speak(voice, credential, *line, began_ns, load.packed, took))
    seconds = time.perf_counter() - started_s
    for connections in lines:
        for _, writer in connections:
            writer.close()
    return Heard(seconds=seconds, requests=len(took), took_ms=tuple(took))


async def _speak(
    voice: Voice,
    credential: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    began_ns: int,
    packed: bool,
    took: list[float],
) -> None:
    head = (
        f"POST {wire.SYNC_PATH} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {credential}\r\n"
        "Content-Type: application/json\r\n"
    ).encode()
    for before, after in voice.messages:
        now_ns = time.monotonic_ns()
        mono_ns = UP_MS * 1_000_000 + now_ns - began_ns
        clock = f'{time.time_ns() // 1_000_000},"mono_ns":{mono_ns}'.encode()
        plain = b"".join((before, clock, after))
        said, encoding = post.packed(plain) if packed else (plain, {})
        more = "".join(f"{name}: {value}\r\n" for name, value in encoding.items()).encode()
        writer.write(b"%sContent-Length: %d\r\n%s\r\n%s" % (head, len(said), more, said))
        status = await reader.readuntil(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200"), status
        place = status.lower().index(b"content-length:") + 15
        body = await reader.readexactly(int(status[place : status.index(b"\r\n", place)]))
        took.append((time.monotonic_ns() - now_ns) / 1e6)
        assert b'"verdict":"ok"' in body, json.loads(body)

from __future__ import annotations

import asyncio
import gzip
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from rigs.ports import free_port

from edge_agent import post
from edge_agent.forward import CollectorAwayError, Reply
from edge_agent.post import Line, http_post

CREDENTIAL = "agw_0123456789.secret"


@dataclass
class Peer:
    """A small HTTP server on a real socket that can be rude. ``None`` for a reply hangs up."""

    port: int = 0
    reply: Callable[[], bytes | None] = lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    hangs_up_after: bool = False
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append((first, headers, body))
                answer = self.reply()
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if self.hangs_up_after:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(peer: Peer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield (
            f"{'https' if tls else 'http'}://localhost:{peer.port}"
            if tls
            else f"http://127.0.0.1:{peer.port}"
        )


async def test_a_sync_goes_out_with_its_credential_and_its_reply_comes_back() -> None:
    peer = Peer()
    async with serving(peer) as url, Line() as line:
        reply = await http_post(line, url + "/", CREDENTIAL)(b'{"v":1}')
        assert reply == Reply(status=200, body=b"{}")
        first, headers, body = peer.requests[0]
        assert first == "POST /api/v1/sync HTTP/1.1"
        assert headers["authorization"] == f"bearer {CREDENTIAL}"
        assert headers["content-type"] == "application/json"
        assert (body, "content-encoding" in headers) == (b'{"v":1}', False)


async def test_a_connection_that_a_message_took_with_it_is_replaced() -> None:
    """What was broken off in the middle may never give it back."""
    async with serving(Peer()) as url, Line() as line:
        sync = http_post(line, url, CREDENTIAL)
        lost = await line._client.send(line._client.build_request("POST", url, content=b"{}"), stream=True)
        assert (await sync(b"{}")).status == 200
        assert (await sync(b"{}")).status == 200
        assert not lost.is_closed


async def test_messages_are_broken_off_at_any_moment_and_the_next_one_goes_out() -> None:
    dice = random.Random(1)
    async with serving(Peer()) as url, Line() as line:
        aside, sync = (http_post(line, url, CREDENTIAL, lane=lane) for lane in ("evidence", ""))
        for _ in range(300):
            broken = asyncio.ensure_future(aside(b"{}"))
            await asyncio.sleep(dice.random() * 0.004)
            broken.cancel()
            await asyncio.wait({broken})
            assert (await sync(b"{}")).status == 200


async def test_a_large_body_is_compressed() -> None:
    peer, body = Peer(), b'{"rows":"' + b"x" * 20_000 + b'"}'
    async with serving(peer) as url, Line() as line:
        await http_post(line, url, CREDENTIAL)(body)
        _, headers, sent = peer.requests[0]
        assert headers["content-encoding"] == "gzip"
        assert len(sent) < 200
        assert gzip.decompress(sent) == body


@pytest.mark.parametrize(
    ("header", "seconds"), [("", None), ("Retry-After: 7\r\n", 7.0), ("Retry-After: Wed, 21 Oct\r\n", None)]
)
async def test_a_busy_collector_says_for_how_long(header: str, seconds: float | None) -> None:
    peer = Peer(reply=lambda: f"HTTP/1.1 503 Busy\r\n{header}Content-Length: 0\r\n\r\n".encode())
    async with serving(peer) as url, Line() as line:
        reply = await http_post(line, url, CREDENTIAL)(b"{}")
        assert reply == Reply(status=503, retry_after_s=seconds)


async def test_one_connection_is_kept_for_all_syncs() -> None:
    peer = Peer()
    async with serving(peer) as url, Line() as line:
        sync = http_post(line, url, CREDENTIAL)
        for _ in range(5):
            await sync(b"{}")
        assert peer.connections == 1


async def test_a_connection_that_was_closed_meanwhile_is_no_trouble() -> None:
    peer = Peer(hangs_up_after=True)
    async with serving(peer) as url, Line() as line:
        sync = http_post(line, url, CREDENTIAL)
        for _ in range(5):
            assert (await sync(b"{}")).status == 200


async def test_nobody_there_is_said_in_words() -> None:
    async with Line() as line:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(CollectorAwayError, match=f"{url} refuses the connection: the service") as away:
            await http_post(line, url, CREDENTIAL)(b"{}")
    assert not away.value.reached


async def test_what_is_said_is_the_last_trouble_not_the_one_before_it() -> None:
    async with Line() as line:
        async with serving(Peer(hangs_up_after=True)) as url:
            sync = http_post(line, url, CREDENTIAL)
            await sync(b"{}")
        # The connection that was kept is closed, and nobody listens any more.
        with pytest.raises(CollectorAwayError, match="refuses the connection"):
            await sync(b"{}")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000,
    ],
)
async def test_half_an_answer_or_none_is_a_collector_that_is_away(answer: bytes | None) -> None:
    peer = Peer(reply=lambda: answer, hangs_up_after=True)
    async with serving(peer) as url, Line() as line:
        with pytest.raises(CollectorAwayError):
            await http_post(line, url, CREDENTIAL)(b"{}")


async def test_a_redirect_is_not_followed() -> None:
    peer = Peer(reply=lambda: b"HTTP/1.1 307 Go\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n")
    async with serving(peer) as url, Line() as line:
        assert (await http_post(line, url, CREDENTIAL)(b"{}")).status == 307


async def test_a_collector_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "READ_S", 0.2)
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, Line() as line:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(CollectorAwayError, match="did not answer in time") as away:
            await http_post(line, url, CREDENTIAL)(b"{}")
        assert away.value.reached
        done.set()


async def test_only_the_private_authority_is_trusted(tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(context)
    ours.cert_pem.write_to_path(str(tmp_path / "ours.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    async with serving(Peer(), context) as url:
        async with Line(tmp_path / "ours.pem") as line:
            assert (await http_post(line, url, CREDENTIAL)(b"{}")).status == 200
        for ca_file, why in (
            (tmp_path / "other.pem", f"{tmp_path / 'other.pem'} does not vouch for it"),
            (None, "nobody whom this machine trusts vouches for it \\(ca_file names a private authority"),
        ):
            async with Line(ca_file) as line:
                with pytest.raises(CollectorAwayError, match=f"certificate of {url} is not .*{why}"):
                    await http_post(line, url, CREDENTIAL)(b"{}")


@pytest.mark.parametrize(
    ("name", "days", "why"),
    [
        ("localhost", (-9, -2), "certificate has expired; is the clock of this machine right\\?$"),
        # What a gateway meets that starts in 1970.
        ("localhost", (2, 9), "certificate is not yet valid; is the clock of this machine right\\?$"),
        ("collector.example", (-2, 9), "Hostname mismatch, certificate is not valid for 'localhost'$"),
    ],
)
async def test_a_certificate_of_another_time_or_name_is_told_as_that(
    tmp_path: Path, name: str, days: tuple[int, int], why: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    since, until = (datetime.now(UTC) + timedelta(days=one) for one in days)
    authority.issue_cert(name, not_before=since, not_after=until).configure_cert(context)
    async with serving(Peer(), context) as url, Line(tmp_path / "ca.pem") as line:
        with pytest.raises(CollectorAwayError, match=f"the certificate of {url} is not accepted: {why}"):
            await http_post(line, url, CREDENTIAL)(b"{}")


async def test_what_speaks_no_tls_is_told_as_that() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, Line() as line:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(CollectorAwayError, match=f"what listens at {url} does not speak TLS"):
            await http_post(line, url, CREDENTIAL)(b"{}")


async def test_a_name_that_nobody_knows_is_told_as_that() -> None:
    async with Line() as line:
        with pytest.raises(CollectorAwayError, match=r"name of https://no\.invalid cannot be resolved: \w"):
            await http_post(line, "https://no.invalid", CREDENTIAL)(b"{}")


async def test_proxies_of_the_environment_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with serving(Peer()) as url, Line() as line:
        assert (await http_post(line, url, CREDENTIAL)(b"{}")).status == 200

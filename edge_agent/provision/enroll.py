"""A gateway and a one-off token become a credential. Any step may be repeated; a lost reply burns nothing."""

from __future__ import annotations

import platform
import re
import ssl
from pathlib import Path

import httpx

from edge_agent import credential, wire
from edge_agent.credential import Credential
from edge_agent.health import agent_version
from edge_agent.provision.address import AddressError, check_url
from edge_agent.unreached import explain

MAX_ANSWER_BYTES = 64 << 10
MAX_WHY_CHARACTERS = 500
# As long as the wire takes it.
TOKEN = re.compile(r"[!-~]{16,128}")


class EnrollError(Exception):
    """Enrolment did not happen; the text says why and what to do."""


def enroll(
    *,
    url: str,
    token: str,
    data_dir: Path,
    site: str | None = None,
    gateway: str | None = None,
    ca_file: Path | None = None,
    allow_plain_http: bool = False,
) -> Credential:
    """Raises EnrollError. ``url`` is the collector's root, https://host:port; ``site`` and ``gateway`` are as
    agent.toml has them, if it does.
    """
    try:
        root = check_url(url, allow_plain_http=allow_plain_http)
    except AddressError as error:
        raise EnrollError(str(error)) from error
    if not TOKEN.fullmatch(token):
        raise EnrollError(
            "this is no enrolment token; expected enr_ and all that follows it, as the collector printed it"
        )
    try:
        secret = credential.secret_for(data_dir, token)
    except OSError as error:
        raise EnrollError(
            f"{data_dir} cannot be written: {error.strerror}; run as the agent's user, or as root"
        ) from error
    request = wire.EnrollRequest(token=token, secret_hash=credential.sha256(secret), facts=facts())
    try:
        with (
            httpx.Client(verify=tls_context(ca_file), timeout=15, trust_env=False) as client,
            client.stream(
                "POST",
                root + wire.ENROLL_PATH,
                content=wire.encode(request),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            ) as reply,
        ):
            body = _bounded(reply)
    except httpx.HTTPError as error:
        raise EnrollError(
            f"{explain(root, error, ca_file=ca_file)}; nothing is lost, run the same command again once that "
            "is mended"
        ) from error
    if reply.status_code != httpx.codes.OK:
        raise EnrollError(f"{root} refused: {why(reply.status_code, body)}")
    try:
        answer = wire.decode_enrolment(body)
    except wire.WireError as error:
        raise EnrollError(
            f"{root} answered something else than an enrolment: is this an Andon collector?"
        ) from error
    made = Credential(
        url=root, site=answer.site, gateway=answer.gateway, credential=answer.credential, secret=secret
    )
    if wrong := credential.contradiction(made, site=site, gateway=gateway):
        raise EnrollError(f"{wrong}; this gateway is enrolled as it was before")
    try:
        credential.save(data_dir, made)
    except OSError as error:
        raise EnrollError(
            f"{data_dir / credential.FILE} cannot be written: {error.strerror}; "
            "the token is good for the same command once that is mended"
        ) from error
    return made


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities, or the site's own alone. Raises EnrollError."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise EnrollError(f"collector.ca_file: {ca_file} is not a PEM certificate file: {error}") from error


def facts() -> dict[str, str]:
    """What a lead wants to know of a gateway that asks to join."""
    return {"hostname": platform.node()[:64], "machine": platform.machine(), "agent_version": agent_version()}


def why(status: int, body: bytes) -> str:
    """What a refusal says, in a line that a terminal can be given."""
    try:
        problem = wire.parse_json(body)
        said = str(problem.get("detail") or problem.get("title") or status)
    except (wire.WireError, AttributeError):
        return f"HTTP {status}"
    return "".join(one if one.isprintable() else " " for one in said[:MAX_WHY_CHARACTERS])


def _bounded(reply: httpx.Response) -> bytes:
    """An answer has a few hundred bytes; whoever sends more is no collector, and what was cut is no JSON."""
    body = b""
    for chunk in reply.iter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return body[:MAX_ANSWER_BYTES]

"""The gateway's own secret on disk: made here, 0600, never in agent.toml, never in a log."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge_agent.provision.address import check_url

FILE = "credential.json"
# The secret of the newest enrolment token; kept, so that the same command may be given again.
ENROLMENT = "enrolment.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    url: str
    site: str
    gateway: str
    # The public half, agw_<id>; the bearer token is "<credential>.<secret>".
    credential: str
    secret: str = field(repr=False)

    @property
    def bearer(self) -> str:
        return f"{self.credential}.{self.secret}"


def load(data_dir: Path) -> Credential | None:
    """None before enrolment. Raises ValueError when the file is there and not a credential."""
    file = data_dir / FILE
    try:
        made = Credential(**json.loads(file.read_text(encoding="utf-8")))
        if not all(
            isinstance(one, str) and one.isascii() and one.isprintable() for one in asdict(made).values()
        ):
            raise ValueError("no text that can be sent")
        # Whether plain http may be was decided when it was enrolled.
        check_url(made.url, allow_plain_http=True)
    except FileNotFoundError:
        return None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a credential; enrol this gateway again") from error
    return made


def contradiction(enrolled: Credential, *, site: str | None, gateway: str | None) -> str:
    """What agent.toml, which calls this gateway so, and its credential say against each other; or nothing."""
    for key, said, given in (("site", site, enrolled.site), ("gateway", gateway, enrolled.gateway)):
        if said and said != given:
            return (
                f"agent.{key} is {said!r}, but the credential is for {given!r}; mend the file and start "
                f"the agent again, or enrol with a token for {said!r}"
            )
    return ""


def save(data_dir: Path, credential: Credential) -> None:
    _write_durably(data_dir / FILE, json.dumps(asdict(credential)))


def secret_for(data_dir: Path, token: str) -> str:
    """The secret for this token: durable before its first use, the same at every repetition."""
    file = data_dir / ENROLMENT
    token_hash = sha256(token)
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["token_hash"] == token_hash:
            return str(stored["secret"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        pass
    secret = secrets.token_hex(32)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_durably(file, json.dumps({"token_hash": token_hash, "secret": secret}))
    return secret


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_durably(file: Path, text: str) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as written:
            if os.geteuid() == 0:
                # Root enrols for the agent, which has to read it.
                folder_of = file.parent.stat()
                os.fchown(descriptor, folder_of.st_uid, folder_of.st_gid)
            written.write(text.encode())
            written.flush()
            os.fsync(descriptor)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

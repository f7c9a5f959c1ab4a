"""The secret that a gateway makes for itself: private, durable, the same for the same token."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from rigs.small_disk import SmallDisk, with_a_disk_of

from edge_agent import credential
from edge_agent.credential import Credential

TOKEN = "enr_0123456789abcdef"
NOBODY = 65_534


def made(secret: str) -> Credential:
    return Credential(
        url="https://andon.example", site="hamburg", gateway="gw-1", credential="agw_01", secret=secret
    )


def test_the_same_token_gets_the_same_secret_also_after_it_was_redeemed(tmp_path: Path) -> None:
    first = credential.secret_for(tmp_path, TOKEN)
    assert credential.secret_for(tmp_path, TOKEN) == first
    credential.save(tmp_path, made(first))
    assert credential.secret_for(tmp_path, TOKEN) == first


def test_another_token_gets_another_secret(tmp_path: Path) -> None:
    assert credential.secret_for(tmp_path, TOKEN) != credential.secret_for(tmp_path, TOKEN + "x")


def test_nobody_else_may_read_what_is_kept(tmp_path: Path) -> None:
    credential.save(tmp_path, made(credential.secret_for(tmp_path, TOKEN)))
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert credential.load(tmp_path) is None
    credential.save(tmp_path, made("s" * 64))
    loaded = credential.load(tmp_path)
    assert loaded == made("s" * 64)
    assert loaded is not None
    assert loaded.bearer == "agw_01." + "s" * 64


def test_the_secret_is_not_in_what_a_log_would_show() -> None:
    assert "s" * 64 not in repr(made("s" * 64))


def test_a_damaged_file_is_said_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / credential.FILE).write_text("{")
    with pytest.raises(ValueError, match="enrol this gateway again"):
        credential.load(tmp_path)


def test_a_file_with_an_address_that_nobody_can_be_asked_at_is_damaged(tmp_path: Path) -> None:
    wrong = asdict(made("s" * 64)) | {"url": "https://andon.example:84x3"}
    (tmp_path / credential.FILE).write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="enrol this gateway again"):
        credential.load(tmp_path)


@with_a_disk_of(1)
def test_on_a_full_disk_the_old_one_stays_and_nothing_is_left_behind(disk: SmallDisk) -> None:
    credential.save(disk.folder, made("a" * 64))
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        credential.save(disk.folder, made("b" * 64))
    assert credential.load(disk.folder) == made("a" * 64)
    assert not list(disk.folder.glob("*.tmp"))


def test_what_root_enrols_belongs_to_the_agent(tmp_path: Path) -> None:
    """Elsewhere than as root the owner of the folder is who writes."""
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()
    os.chown(tmp_path, owner, -1)
    secret = credential.secret_for(tmp_path, TOKEN)
    credential.save(tmp_path, made(secret))
    for file in tmp_path.iterdir():
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (owner, 0o600)

"""What a machine lacks is said in one line with its cure, before anything is installed."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def asked(python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "deploy" / "prerequisites", python], capture_output=True, text=True)


def fake(folder: Path, script: str) -> str:
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_no_python_at_all() -> None:
    assert "apt-get install python3 python3-venv" in refusal(asked(""))


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = fake(tmp_path, 'case "$1" in -V) echo "Python 3.9.2";; *) exit 1;; esac')
    assert "3.11 or newer" in refusal(asked(old))
    assert "Python 3.9.2" in refusal(asked(old))


def test_a_python_without_venv(tmp_path: Path) -> None:
    bare = fake(tmp_path, 'case "$2" in *venv*) exit 1;; esac')
    assert "apt-get install python3-venv" in refusal(asked(bare))


def test_a_python_that_will_do_is_passed_in_silence(tmp_path: Path) -> None:
    done = asked(fake(tmp_path, "exit 0"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_locks_hold_a_hash_for_every_package_and_no_address() -> None:
    fewest = {"requirements.lock": 30, "requirements-dev.lock": 30, "requirements-sparkplug.lock": 3}
    assert fewest.keys() == {file.name for file in (ROOT / "deploy").glob("*.lock")}
    for name, at_least in fewest.items():
        text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
        packages = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert len(packages) >= at_least
        assert all(line.endswith("\\") for line in packages), "a package without a hash"
        assert "://" not in text

"""What is small on the wire and large in memory is refused in words, within bounds that are measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from rigs.web import Gateway, House, house

from edge_agent import plain_yaml, profile, wire

MIB = 1 << 20
ZIPPED = {"Content-Encoding": "gzip"}
TOO_MANY = b"[" + b",".join([b"{}"] * 2_700_000) + b"]"

# Name: (body, is it packed, status, words of the refusal)
BOMBS: dict[str, tuple[bytes, bool, int, str]] = {
    "64 MiB of zeros in 63 KiB": (gzip.compress(bytes(64 * MIB)), True, 413, "after gunzip"),
    "a bomb in a bomb": (gzip.compress(gzip.compress(bytes(64 * MIB))), True, 400, "not UTF-8"),
    "two members": (gzip.compress(b"{}") * 2, True, 400, "more than one member"),
    "8 MiB of empty objects in 8 KiB": (gzip.compress(TOO_MANY), True, 400, "values"),
    "as many objects as are let through": (
        gzip.compress(b"[" + b",".join([b'{"a":1}'] * wire.MAX_OBJECTS) + b"]"),
        True,
        400,
        "message",
    ),
    "as many values as are let through": (
        gzip.compress(b"[" + b",".join([b"[1.5]"] * wire.MAX_VALUES) + b"]"),
        True,
        400,
        "message",
    ),
    "100,000 brackets": (b"[" * 100_000, False, 400, "nested deeper"),
    "40 objects in one another": (b'{"a":' * 40 + b"1" + b"}" * 40, False, 400, "nested deeper"),
    "a doubled key": (b'{"v":1,"v":1}', False, 400, "same key twice"),
    "NaN": (b'{"v":NaN}', False, 400, "NaN"),
    "infinity": (b'{"v":-Infinity}', False, 400, "Infinity"),
    "a number beyond a float": (b'{"v":1e999}', False, 400, "too large"),
    "a number of 5,000 digits": (b'{"v":' + b"9" * 5000 + b"}", False, 400, "digits"),
    "half a surrogate pair": (b'{"v":"\\udc00"}', False, 400, "surrogate"),
    "bytes that are not UTF-8": (b'{"v":"\xff"}', False, 400, "UTF-8"),
}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def post(home: House, gateway: Gateway, body: bytes, **headers: str) -> httpx.Response:
    return await home.client().post(wire.SYNC_PATH, content=body, headers=gateway.headers | headers)


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_in_words_and_the_next_sync_is_taken(home: House, name: str) -> None:
    body, packed, status, words = BOMBS[name]
    gateway = await home.enrol()
    answer = await post(home, gateway, body, **(ZIPPED if packed else {}))
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert (await home.sync(gateway)).verdict == "ok"


async def test_more_rows_than_a_message_may_have_are_refused_whole(home: House) -> None:
    gateway = await home.enrol()
    message = json.loads(wire.encode(gateway.voice.message(0))) | {"rows": [{}] * (wire.MAX_ROWS + 1)}
    answer = await post(home, gateway, json.dumps(message).encode())
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("rows")


async def test_a_number_beyond_a_float_is_refused_as_nan_is(home: House) -> None:
    gateway = await home.enrol()
    gateway.voice.raises(0, evidence={"x": 0.5})
    message = wire.encode(gateway.voice.message(0)).replace(b'"x":0.5', b'"x":1e999')
    assert b"1e999" in message
    assert (await post(home, gateway, message)).status_code == 400


MEASURE = """
import json, pathlib, sys, time
from collector.api.sync import gunzip
from collector.parsing import parse
from collector.problems import Problem
from edge_agent import wire

def kib(name):
    return int(pathlib.Path("/proc/self/status").read_text().split(name)[1].split()[0])

wire.decode_sync(pathlib.Path(sys.argv[1], "fine").read_bytes(), parse)
for file in sorted(pathlib.Path(sys.argv[1]).glob("bomb-*")):
    body = file.read_bytes()
    # proc(5): the peak begins anew.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, began = kib("VmHWM:"), time.process_time()
    try:
        wire.decode_sync(gunzip(body) if file.suffix == ".gz" else body, parse)
        said = "taken"
    except (Problem, wire.WireError) as error:
        said = type(error).__name__
    print(json.dumps([said, kib("VmHWM:") - before, time.process_time() - began]))
"""


def test_no_bomb_takes_more_than_32_mib_from_the_collector(tmp_path: Path) -> None:
    """As another process measures it, whose memory is nobody else's."""
    golden = json.loads((Path(__file__).parents[1] / "wire" / "v1" / "present.json").read_text())
    (tmp_path / "fine").write_text(json.dumps(golden["exchanges"][0]["request"]))
    for number, (body, packed, _, _) in enumerate(BOMBS.values()):
        (tmp_path / f"bomb-{number:02}{'.gz' if packed else ''}").write_bytes(body)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, check=True, timeout=100).stdout.splitlines()
    assert len(told) == len(BOMBS)
    for name, line in zip(BOMBS, told, strict=True):
        said, grew_kib, cpu_s = json.loads(line)
        print(f"{name:<34} {said:<10} {grew_kib:>7} KiB {cpu_s * 1000:>7.1f} ms")
        assert said != "taken"
        assert grew_kib < 32 * 1024, name


YAML_BOMBS = {
    "aliases of aliases": "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "an alias alone": "a: *nobody\n",
    "a tag": "a: !!python/object/apply:os.system ['true']\n",
    "a doubled key": "a: 1\na: 2\n",
    "a merge": "a: {<<: {b: 1}}\n",
    "a second document": "a: 1\n---\nb: 2\n",
    "deep": "[" * 30 + "]" * 30,
    "more than 64 KiB": "a: " + "x" * (65 << 10),
    "no": "a: no\n",
    "a time": "a: 12:30:45\n",
    "an exponent without a point": "a: 1e3\n",
    "an octal": "a: 017\n",
    "a date": "a: 2026-11-22\n",
    "an infinity": "a: .inf\n",
    "an escape beyond Unicode": 'a: "\\U00110000"\n',
    "half a surrogate pair": 'a: "\\ud800"\n',
    "a version of 5,000 digits": "%YAML 1." + "1" * 5000 + "\n---\na: 1\n",
}


@pytest.mark.parametrize("name", YAML_BOMBS)
def test_yaml_that_could_mean_two_things_is_refused_with_its_line(name: str) -> None:
    with pytest.raises(plain_yaml.PlainYamlError, match=r"^line \d+: "):
        plain_yaml.load(YAML_BOMBS[name])
    with pytest.raises(profile.ProfileError):
        profile.parse(YAML_BOMBS[name], name="p")

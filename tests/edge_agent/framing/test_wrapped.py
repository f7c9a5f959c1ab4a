"""A frame as it comes over the line is that frame again once it is cut out."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import shipped_profiles
from edge_agent.framing import ssi
from edge_agent.grammar import steps, to_bytes
from edge_agent.profile import Profile, parse

PROFILES = [
    parse(file.read_text("utf-8"), name=file.stem) for file in sorted(shipped_profiles().glob("*.yaml"))
]


def frames(profile: Profile) -> Iterator[bytes]:
    for example in profile.examples:
        for step in (*steps(example.trips), *steps(example.clears)):
            for payload in step.reads.values():
                if isinstance(payload, tuple):
                    yield from (to_bytes(frame) for frame in payload if isinstance(frame, str))


@pytest.mark.parametrize(
    "profile", [one for one in PROFILES if one.framing is not None], ids=lambda profile: profile.name
)
def test_what_the_examples_of_a_shipped_profile_say_comes_over_the_line_as_it_is(profile: Profile) -> None:
    framing = import_module(f"edge_agent.framing.{profile.framing}")
    said = list(frames(profile))
    assert said
    framer = framing.Framer()
    assert framer.feed(b"".join(map(framing.wrapped, said))) == said
    assert framer.dropped == 0


@settings(deadline=None)
@given(st.binary(max_size=1_500))
def test_a_long_message_of_ssi_goes_in_packets(data: bytes) -> None:
    frame = b"\xf3\x00\x00" + data
    framer = ssi.Framer()
    (found,) = framer.feed(ssi.wrapped(frame))
    assert (found[:2], found[3:]) == (frame[:2], data)
    assert framer.dropped == 0

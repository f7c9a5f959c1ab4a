"""Several topics as one read: a map of texts, and the views of a Sparkplug node."""

from __future__ import annotations

import json

import pytest

from edge_agent.gather import MAX_MAP_BYTES, GatherError, Map, Node, Taker, View, device_in, node_topic
from edge_agent.sparkplug_payload import PayloadError, decoded

ALERTS = "homie/5/lamp-1/$alert/+"
LAMP: Taker = ("lamp-1", "alerts")


def texts(said: object) -> object:
    found = [(taker, json.loads(frame)) for taker, frame in said]  # type: ignore[attr-defined]
    return [(taker, one.get("texts", one)) for taker, one in found]


def alerts() -> Map:
    return Map(ALERTS, [LAMP])


def test_a_map_has_the_last_text_of_each_topic_and_an_empty_one_takes_it_away() -> None:
    found = alerts()
    assert texts(found.take("homie/5/lamp-1/$alert/heat", b"too hot", retained=True)) == [
        (LAMP, {"heat": "too hot"})
    ]
    found.take("homie/5/lamp-1/$alert/fan", b"blocked", retained=False)
    said = found.take("homie/5/lamp-1/$alert/heat", b"hot", retained=False)
    assert texts(said) == [(LAMP, {"heat": "hot", "fan": "blocked"})]
    assert texts(found.take("homie/5/lamp-1/$alert/heat", b"", retained=False)) == [
        (LAMP, {"fan": "blocked"})
    ]
    assert texts(found.take("homie/5/lamp-1/$alert/none", b"", retained=False)) == [
        (LAMP, {"fan": "blocked"})
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_what_does_not_come_again_after_the_connection_broke_was_taken_away_meanwhile(kept: bool) -> None:
    found = alerts()
    found.take("homie/5/lamp-1/$alert/a", b"x", retained=False)
    found.take("homie/5/lamp-1/$alert/b", b"y", retained=False)
    found.reconnected(kept=kept)
    # Until all has come nothing ends: it would begin anew a moment later.
    said = found.take("homie/5/lamp-1/$alert/b", b"z", retained=True)
    assert texts(said) == [(LAMP, {"a": "x", "b": "z"})]
    assert texts(found.settled()) == [(LAMP, {"b": "z"})]
    found.reconnected(kept=kept)
    assert texts(found.settled()) == [(LAMP, {})]


def test_a_map_that_grows_without_end_is_refused_and_goes_on_with_what_it_has() -> None:
    found = alerts()
    for number in range(60):
        found.take(f"homie/5/lamp-1/$alert/{number}", b"x" * 1_000, retained=False)
    with pytest.raises(GatherError, match="more than 60 KiB"):
        found.take("homie/5/lamp-1/$alert/one-more", b"x" * 1_000, retained=False)
    ((_, frame),) = found.take("homie/5/lamp-1/$alert/1", b"", retained=False)
    assert len(frame) < MAX_MAP_BYTES


# --- Sparkplug ----------------------------------------------------------------------------------------------

NODE, BELT, ARM = ("gw", "edge"), ("belt", "edge"), ("arm", "edge")
# A birth that names Jam with alias 1, of Boolean; seq 0.
BIRTH = b"\x12\x0b\x0a\x03Jam\x10\x01\x20\x0b\x70\x00\x18\x00"
JAMMED = b"\x12\x04\x10\x01\x70\x01\x18\x01"


def node() -> Node:
    jam = frozenset({"Jam"})
    return Node(
        {
            NODE: View(device=None, wanted=frozenset()),
            BELT: View(device="belt", wanted=jam),
            ARM: View(device="arm", wanted=jam),
        }
    )


def test_everybody_hears_of_the_node_and_each_of_what_is_his_own() -> None:
    found = node()
    born = found.take("spBv1.0/hall/NBIRTH/gw", BIRTH, retained=False)
    assert [taker for taker, _ in born] == [NODE, BELT, ARM]
    mine = found.take("spBv1.0/hall/DBIRTH/gw/belt", BIRTH[:-1] + b"\x01", retained=False)
    assert [(taker, one["metrics"]) for taker, one in texts(mine)] == [(BELT, {"Jam": False})]  # type: ignore[attr-defined]
    # Number 2 is missing: that concerns all.
    lost = found.take("spBv1.0/hall/DDATA/gw/belt", JAMMED[:-1] + b"\x03", retained=False)
    assert [(taker, one["lost"], one["metrics"]) for taker, one in texts(lost)] == [  # type: ignore[attr-defined]
        (NODE, 1, {}),
        (BELT, 1, {"Jam": True}),
        (ARM, 1, {}),
    ]


@pytest.mark.parametrize(
    "topic",
    [
        "spBv1.0/hall/NCMD/gw",
        "spBv1.0/hall/DCMD/gw/belt",
        "spBv1.0/hall/XDATA/gw",
        "spBv1.0/hall/NDATA/gw/belt",
        "spBv1.0/hall/DDATA/gw",
        "spBv1.0/hall/DDATA/gw/belt/more",
        "spBv1.0",
    ],
)
def test_what_is_no_word_of_a_node_or_device_is_passed_over(topic: str) -> None:
    assert list(node().take(topic, b"\x0b", retained=False)) == []


def test_what_a_broker_kept_may_be_of_a_session_long_ago() -> None:
    assert list(node().take("spBv1.0/hall/NBIRTH/gw", BIRTH, retained=True)) == []


def test_what_is_no_payload_is_told_by_its_kind() -> None:
    with pytest.raises(PayloadError):
        decoded(b"\x0b")
    with pytest.raises(GatherError, match="NDATA is no payload of Sparkplug B: wire type 3"):
        node().take("spBv1.0/hall/NDATA/gw", b"\x0b", retained=False)


def test_a_birth_that_is_too_long_to_be_read_is_told_and_the_session_before_it_has_ended() -> None:
    found = node()
    found.take("spBv1.0/hall/NBIRTH/gw", BIRTH, retained=False)
    found.take("spBv1.0/hall/DBIRTH/gw/belt", BIRTH[:-1] + b"\x01", retained=False)
    longest = bytes((512 << 10) + 1)
    assert len(longest) <= found.max_bytes
    with pytest.raises(
        GatherError, match="NBIRTH is no payload of Sparkplug B: a payload of more than 512 KiB"
    ):
        found.take("spBv1.0/hall/NBIRTH/gw", longest, retained=False)
    said = dict(found.take("spBv1.0/hall/DDATA/gw/belt", JAMMED, retained=False))
    assert (json.loads(said[BELT])["metrics"], json.loads(said[NODE])["node"]) == ({}, "online")


@pytest.mark.parametrize("kept", [True, False])
def test_births_count_over_a_break_of_our_own_connection_where_a_death_would_have_been_kept(
    kept: bool,
) -> None:
    found = node()
    found.take("spBv1.0/hall/NBIRTH/gw", BIRTH, retained=False)
    found.take("spBv1.0/hall/DBIRTH/gw/belt", BIRTH[:-1] + b"\x01", retained=False)
    found.reconnected(kept=kept)
    said = dict(found.take("spBv1.0/hall/DDATA/gw/belt", JAMMED[:-1] + b"\x63", retained=False))
    one = json.loads(said[BELT])
    assert (one["metrics"], one["birth"]) == (({"Jam": True}, "seen") if kept else ({}, "missing"))
    assert one["lost"] == 0


@pytest.mark.parametrize(("topic", "device"), [("hall/gw", None), ("hall/gw/belt", "belt")])
def test_a_topic_is_a_node_or_a_device_of_it(topic: str, device: str | None) -> None:
    assert node_topic(topic) == "spBv1.0/hall/+/gw/#"
    assert device_in(topic) == device


@pytest.mark.parametrize(
    "topic", ["", "hall", "hall/", "/gw", "hall/gw/belt/x", "hall/+", "hall/gw/#", "hall//belt"]
)
def test_another_text_is_no_node(topic: str) -> None:
    with pytest.raises(ValueError, match="group/node"):
        node_topic(topic)

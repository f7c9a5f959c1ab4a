"""The simulated SSI scanner through the real serial and TCP transports and the shipped profile."""

from __future__ import annotations

import pytest
from rigs.floor import often, text_bus
from rigs.ports import wait_until
from rigs.watched import Watched, watched
from rigs.wiretap import Wiretap

from device_profiles.simulators.serving import Outlet, Tcp
from device_profiles.simulators.zebra_ssi import CODE, SsiScanner, packet
from edge_agent import decode

RAISES = {
    "power_loss": "scanner/restarted",
    "parameter_error": "scanner/parameter-error",
    "defaults_set": "scanner/defaults-set",
    "unknown_event": "scanner/unclassified",
}


async def heard(floor: Watched, opcode: int) -> None:
    """A packet of that opcode has come; so have those before it."""
    await wait_until(lambda: b"".join(floor.latest["scan"].payload)[:1] == bytes([opcode]))


async def connected(floor: Watched) -> None:
    """Both reads have brought something: whoever listens hears when the link is up."""
    await wait_until(lambda: floor.seen["scan"] and floor.seen["revision"])


def test_the_packets_of_the_simulator_are_those_of_other_people() -> None:
    assert packet(0xF6, 0, b"\x03") == bytes.fromhex("05 F6 00 00 03 FF 02")
    assert packet(0xA3, 0, b"", source=4) == bytes.fromhex("04 A3 04 00 FF 55")
    assert packet(0xD0, 0, b"", source=4) == bytes.fromhex("04 D0 04 00 FF 28")


@pytest.mark.parametrize("pieces", [1, 4])
async def test_each_event_of_the_scanner_is_one_condition_until_the_next_scan(
    plug: Outlet, pieces: int
) -> None:
    scanner = SsiScanner(plug, pieces=pieces)
    plug.one_byte_at_a_time = pieces > 1
    assert {*RAISES, "garbled", "mute"} == set(scanner.faults)
    await scanner.start()
    async with watched("zebra-ssi", text_bus(plug), overlay=often("revision")) as floor:
        await connected(floor)
        for fault, condition in RAISES.items():
            scanner.set(fault)
            await heard(floor, 0xF6)
            assert floor.active() == {condition}, fault
            scanner.set(fault, False)
            await heard(floor, 0xF3)
            assert floor.active() == frozenset(), fault
        assert floor.latest["scan"].payload == (b"\xf3\x00%c\x0b" % (2 if pieces > 1 else 0) + CODE,)
    await scanner.stop()


async def test_a_garbled_packet_is_none(plug: Outlet) -> None:
    scanner = SsiScanner(plug)
    await scanner.start()
    async with watched("zebra-ssi", text_bus(plug), overlay=often("revision")) as floor:
        await connected(floor)
        scanner.set("power_loss")
        await heard(floor, 0xF6)
        before = floor.seen["scan"]
        scanner.set("garbled")
        for _ in range(5):
            scanner.scan()
        scanner.set("garbled", False)
        scanner.scan()
        await heard(floor, 0xF3)
        assert floor.seen["scan"] == before + 1
    await scanner.stop()


async def test_a_scanner_that_is_connected_and_answers_nothing_is_a_fault_of_its_own(plug: Outlet) -> None:
    scanner = SsiScanner(plug)
    await scanner.start()
    async with watched("zebra-ssi", text_bus(plug), overlay=often("revision", timeout_s=0.2)) as floor:
        await connected(floor)
        for mute, active in ((True, {"scanner/not-answering"}), (False, frozenset())):
            scanner.set("mute", mute)
            before = floor.seen["revision"]
            await wait_until(lambda: floor.seen["revision"] >= before + 2)  # noqa: B023
            floor.trial.wait(60)
            assert floor.active() == active
    await scanner.stop()


async def test_what_is_scanned_while_the_agent_waits_for_its_answer_is_neither_lost_nor_taken_for_it() -> (
    None
):
    scanner = SsiScanner(Tcp(), pieces=2)
    await scanner.start()
    overlay = often("revision", timeout_s=0.3)
    async with watched("zebra-ssi", text_bus(scanner.outlet), overlay=overlay) as floor:
        await connected(floor)
        for number in range(1, 13):
            # Every third question stays without an answer, and the line is then left alone for a while.
            scanner.answers = number % 3 != 0
            before, asked = floor.seen["scan"], floor.seen["revision"]
            scanner.scan()
            await wait_until(lambda: floor.seen["scan"] == before + 1)  # noqa: B023
            await wait_until(lambda: floor.seen["revision"] > asked)  # noqa: B023
            assert floor.latest["revision"].payload in ((), (b"\xa4\x00\x00NBRPUAAN",))
    await scanner.stop()


async def test_on_a_tapped_line_the_agent_says_nothing_at_all() -> None:
    plug = Tcp()
    tap = Wiretap(plug)
    scanner = SsiScanner(plug)
    await scanner.start()
    async with watched("zebra-ssi", text_bus(plug), preset="tapped") as floor:
        await wait_until(lambda: floor.seen["scan"])
        scanner.set("power_loss")
        await heard(floor, 0xF6)
        assert floor.active() == {"scanner/restarted"}
        scanner.set("power_loss", False)
        await heard(floor, 0xF3)
        floor.trial.wait(60)
        assert floor.active() == frozenset()
    assert [bytes(line) for line in tap.lines] == [b""]
    await scanner.stop()


async def test_nothing_of_a_scanned_code_is_in_the_evidence() -> None:
    scanner = SsiScanner(Tcp())
    await scanner.start()
    async with watched("zebra-ssi", text_bus(scanner.outlet)) as floor:
        await connected(floor)
        scanner.scan()
        await heard(floor, 0xF3)
        shown = decode.shown(floor.trial.device, floor.latest["scan"])
        assert shown == ("\\xf3\\x00\\x00\\x0b[redacted]",)
    await scanner.stop()

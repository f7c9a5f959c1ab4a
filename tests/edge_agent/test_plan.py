"""What the plan says of a bus, in words for an installer."""

import re
from types import SimpleNamespace

from rigs.readings import device

from edge_agent.plan import plan
from edge_agent.poll import Line
from edge_agent.profile import IppRead, ListenRead, ModbusRead, RequestRead, TopicRead


def registers(
    address: int, count: int, *, function: int = 3, every_s: float = 1.0, **more: object
) -> ModbusRead:
    return ModbusRead.model_validate(
        {"function": function, "address": address, "count": count, "every_s": every_s, **more}
    )


def bus(line: Line) -> SimpleNamespace:
    return SimpleNamespace(name="drives", line=line)


RTU = Line(words="Modbus RTU on /dev/ttyS1, 9600 baud 8N1", byte_s=10 / 9600, request_s=0.02, framing_bytes=6)


def test_the_plan_says_what_is_read_how_often_and_what_it_costs() -> None:
    drive = device("drive-1", {"status": registers(8448, 2), "speed": registers(8451, 1)}, unit=5)
    text = plan(bus(RTU), [drive]).lines()
    assert text == [
        "Modbus RTU on /dev/ttyS1, 9600 baud 8N1",
        "drive-1 unit 5: holding registers 8448-8451 (status, speed in one request) every 1 s, about 42 ms",
        "everything once takes about 42 ms (assumed: 20 ms for the device to answer); 4% of the line is used",
    ]


def test_a_read_in_pieces_costs_a_request_each() -> None:
    line = Line(words="any", request_s=0.01)
    module = device("module", {"all": registers(0, 100)}, max_registers=45)
    assert plan(bus(line), [module]).lines()[1] == (
        "module unit 1: holding registers 0-99 (all in 3 requests) every 1 s, about 30 ms"
    )


def test_the_plan_says_in_words_that_a_line_cannot_carry_it() -> None:
    many = [device(f"drive-{n}", {"all": registers(0, 120)}, unit=n) for n in range(1, 9)]
    found = plan(bus(RTU), many)
    assert found.load > 1
    assert "cannot carry it" in found.lines()[-1]
    # Numbers as a person would say them.
    assert not re.search(r"\d\.\d\d", " ".join(found.lines()))


def test_the_plan_says_what_a_dead_device_costs_the_others() -> None:
    some = [device(f"drive-{n}", {"all": registers(0, 10, timeout_s=2)}, unit=n) for n in (1, 2)]
    found = plan(bus(RTU), some)
    assert found.lines()[-1] == (
        "a device that does not answer costs the others up to 6 s once, then 2 s in 30 s or more:"
        " 18% of the line is used with one of them"
    )
    # A probe takes a tenth of the line at the most.
    slow = [device(f"drive-{n}", {"all": registers(0, 10, timeout_s=20)}, unit=n) for n in (1, 2)]
    assert round(plan(bus(RTU), slow).load_with_one_dead - found.load, 6) == 0.1
    assert plan(bus(RTU), some[:1]).dead_s is None


def test_the_plan_says_that_a_line_has_no_room_for_a_dead_device() -> None:
    many = [device(f"drive-{n}", {"all": registers(0, 40, timeout_s=5)}, unit=n) for n in range(1, 9)]
    found = plan(bus(RTU), many)
    assert found.load < 1 < found.load_with_one_dead
    assert "reads of its neighbours are skipped" in found.lines()[-1]


def test_the_plan_warns_of_a_line_that_is_nearly_full() -> None:
    some = [device(f"drive-{n}", {"all": registers(0, 120)}, unit=n) for n in range(1, 4)]
    assert "nearly full" in plan(bus(RTU), some).lines()[-1]


def test_the_plan_names_what_is_asked_listened_to_and_subscribed() -> None:
    line = Line(words="any")
    printer = device("printer", {"hs": RequestRead(send="~HS", frames=3, every_s=5)}, framing="stx_etx")
    scanner = device("scanner", {"scan": ListenRead(listen=True)}, framing="line")
    beacon = device("beacon", {"presence": TopicRead(topic="tele/{topic}/LWT")}, topic="dock-7")
    queue = device("queue", {"all": IppRead(attributes=("printer-state", "queued-job-count"))})
    assert plan(bus(line), [printer, scanner, beacon, queue]).lines() == [
        "any",
        "printer: asks (hs) every 5 s, about 10 ms",
        "queue: asks for 2 attributes (all) every 10 s, about 10 ms",
        "scanner: listens (scan)",
        "beacon: tele/dock-7/LWT (presence), QoS 1",
        "everything once takes about 20 ms (assumed: 10 ms for the device to answer); 0% of the line is used",
    ]

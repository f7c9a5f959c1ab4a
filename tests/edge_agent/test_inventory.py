from __future__ import annotations

from dataclasses import replace

from rigs.watching import CONVEYOR, conveyor

from edge_agent.inventory import inventory
from edge_agent.wire import Severity


def test_the_inventory_names_every_device_and_every_condition() -> None:
    found = inventory([conveyor("belt-2"), conveyor("belt-1")])
    assert [device.id for device in found.devices] == ["belt-1", "belt-2"]
    belt = found.devices[0]
    assert (belt.place, belt.profile, belt.bus) == ("hall/line-1/infeed", "conveyor", "bus")
    assert [(one.component, one.fault, one.severity) for one in belt.conditions] == [
        ("belt", "jam", Severity.STOP),
        ("belt", "quiet", Severity.NOTICE),
        ("link", "unreachable", Severity.DEGRADED),
        ("motor", "overload", Severity.DEGRADED),
    ]


def test_the_hash_is_the_same_whatever_the_order_of_the_configuration() -> None:
    one, other = conveyor("belt-1"), conveyor("belt-2")
    assert inventory([one, other]) == inventory([other, one])
    assert len(inventory([one]).hash) == 32


def test_the_hash_changes_with_what_is_watched() -> None:
    belt = conveyor("belt-1")
    hashes = {
        inventory(devices).hash
        for devices in (
            [],
            [belt],
            [replace(belt, id="belt-9")],
            [replace(belt, place="hall/line-2/infeed")],
            [replace(belt, bus="other")],
            [conveyor("belt-1", CONVEYOR.replace("severity: stop", "severity: degraded"))],
            [conveyor("belt-1", CONVEYOR.replace("title: Jam", "title: Jammed"))],
        )
    }
    assert len(hashes) == 7


def test_how_a_condition_is_found_is_nobodys_business() -> None:
    slower = conveyor("belt-1", CONVEYOR.replace("on_delay_s: 5", "on_delay_s: 6"))
    assert inventory([conveyor("belt-1")]) == inventory([slower])

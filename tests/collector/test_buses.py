"""What a gateway's buses carry, as the collector shows it."""

from __future__ import annotations

import pytest
from rigs.edge_voice import EdgeVoice, enrol, send

from collector.pages.floor import gateway_line
from collector.store import Store
from collector.store.figures import figures
from collector.store.gateways import gateways
from edge_agent.wire import BusService, Health


def says(store: Store, edge: EdgeVoice, minute: float, *buses: BusService, behind: int) -> None:
    health = Health(buses=list(buses), buses_behind=behind)
    message = edge.message(minute).model_copy(update={"health": health})
    edge.hear(send(store, edge.gateway, message, minute))


def remarks(store: Store) -> tuple[str, ...]:
    (found,) = store.read(lambda connection: gateways(connection, None))
    return gateway_line(found).remarks


@pytest.fixture
def edge(store: Store) -> EdgeVoice:
    return EdgeVoice(enrol(store))


def test_a_bus_that_is_behind_is_named_on_its_gateway_and_counted(store: Store, edge: EdgeVoice) -> None:
    drives = BusService(name="drives", due=600, kept=372, cycle_ms=1600, planned_ms=400)
    lifts = BusService(name="lifts", due=60, kept=60, cycle_ms=300, planned_ms=250)
    says(store, edge, 1, drives, lifts, behind=1)
    assert remarks(store) == ("bus drives keeps 62 % of its reads",)
    found = store.read(figures)
    assert (found.buses_behind, found.cycle_over_plan) == (1, 4.0)
    says(store, edge, 3, BusService(name="drives", due=600, kept=600), lifts, behind=0)
    assert remarks(store) == ()
    found = store.read(figures)
    assert (found.buses_behind, found.cycle_over_plan) == (0, 1.2)


def test_an_agent_that_tells_nothing_of_its_buses_is_not_behind(store: Store, edge: EdgeVoice) -> None:
    edge.hear(send(store, edge.gateway, edge.message(1), 1))
    assert remarks(store) == ()
    found = store.read(figures)
    assert (found.buses_behind, found.cycle_over_plan) == (0, 0.0)


def test_of_many_buses_the_worst_three_are_named(store: Store, edge: EdgeVoice) -> None:
    says(store, edge, 1, *(BusService(name=f"b{n}", due=100, kept=n) for n in range(9)), behind=9)
    assert [remark.split()[1] for remark in remarks(store)] == ["b0", "b1", "b2"]

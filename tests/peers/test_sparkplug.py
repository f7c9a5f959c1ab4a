"""A Sparkplug edge node of another maker, heard through a real broker by the MQTT transport."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs.mosquitto import Broker
from rigs.readings import Readings, device, running, stamp
from rigs.sparkplug import EdgeNode, RefusedError, metric

from edge_agent.profile import TopicRead
from edge_agent.transports.mqtt import Settings, Transport

KINDS = {"NBIRTH": "", "NDATA": "", "NDEATH": "", "DBIRTH": "/belt", "DDATA": "/belt", "DDEATH": "/belt"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker").start()
    yield made
    made.stop()


def listening(broker: Broker, readings: Readings) -> Transport:
    reads = {kind: TopicRead(topic=f"spBv1.0/hall/{kind}/gw-7{tail}", qos=0) for kind, tail in KINDS.items()}
    settings = Settings(name="bus", host="127.0.0.1", port=broker.port)
    return Transport(settings, [device("belt", dict(reads))], readings.deliver, stamp)


def node(broker: Broker) -> EdgeNode:
    return EdgeNode(broker, "hall", "gw-7", [metric("Uptime", 12, alias=1)])


async def test_births_data_and_deaths_arrive_in_the_order_in_which_the_node_said_them(broker: Broker) -> None:
    readings = Readings()
    async with running(listening(broker, readings).run()):
        await broker.reaches(readings, "spBv1.0/hall/NDATA/gw-7")
        with node(broker) as gateway:
            gateway.device("belt", [metric("Jam", False, alias=10)])
            gateway.connect()
            await readings.until(2)
            gateway.data("belt", [metric("Jam", True)])
            gateway.data(None, [metric("Uptime", 13)])
            gateway.message("DDATA", "belt", [metric(None, False, alias=10)], seq=77)
            gateway.device_ends("belt")
            gateway.disconnect()
            await readings.until(7)
    said = [reading.read for reading in readings if reading.payload]
    assert said == ["NBIRTH", "DBIRTH", "DDATA", "NDATA", "DDATA", "DDEATH", "NDEATH"]
    births_name_it, by_name, by_alias = (readings.payloads("DBIRTH"), *readings.payloads("DDATA"))
    assert b"Jam" in births_name_it[0][0]
    assert b"Jam" in by_name[0]
    assert b"Jam" not in by_alias[0]


async def test_the_death_of_a_node_that_lost_its_power_is_said_by_the_broker(broker: Broker) -> None:
    readings = Readings()
    async with running(listening(broker, readings).run()):
        await broker.reaches(readings, "spBv1.0/hall/NDATA/gw-7")
        with node(broker) as gateway:
            gateway.connect()
            await readings.until(1)
            gateway.kill()
            await readings.until(2)
    assert [reading.read for reading in readings if reading.payload] == ["NBIRTH", "NDEATH"]


def test_what_the_library_will_not_do_is_said_in_its_own_words(broker: Broker) -> None:
    with node(broker) as gateway, pytest.raises(RefusedError, match="Unrecognized metric Speed"):
        gateway.data(None, [metric("Speed", 1.5)])

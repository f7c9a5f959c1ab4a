"""Where a simulated device is plugged in: a serial port and a TCP port, or a broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs.mosquitto import Broker as Mosquitto

from device_profiles.simulators.serving import Outlet, Pty, Tcp


@pytest.fixture(params=["serial", "tcp"])
def plug(request: pytest.FixtureRequest, tmp_path: Path) -> Outlet:
    return Pty(tmp_path / "device") if request.param == "serial" else Tcp()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker").start()
    yield broker
    broker.stop()

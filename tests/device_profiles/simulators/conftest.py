"""Where a simulated device that speaks text is plugged in: once on a serial port, once on a TCP port."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_profiles.simulators.serving import Outlet, Pty, Tcp


@pytest.fixture(params=["serial", "tcp"])
def plug(request: pytest.FixtureRequest, tmp_path: Path) -> Outlet:
    return Pty(tmp_path / "device") if request.param == "serial" else Tcp()

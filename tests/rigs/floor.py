"""A simulated device on a port or a pseudo-terminal: how the agent finds it, and its faults one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rigs.watched import Watched

from device_profiles.simulators.serving import Outlet, Pty, Simulator, Tcp
from edge_agent.profile import Profile, RequestRead


def text_bus(outlet: Outlet) -> dict[str, object]:
    """``[[bus]]`` for a device that speaks text."""
    if isinstance(outlet, Tcp):
        return {"transport": "tcp", "host": outlet.host, "port": outlet.port}
    assert isinstance(outlet, Pty)
    return {"transport": "serial", "port": str(outlet.path)}


def modbus_bus(outlet: Outlet) -> dict[str, object]:
    """``[[bus]]`` for Modbus: TCP on a port, RTU on a pseudo-terminal."""
    if isinstance(outlet, Tcp):
        return {"transport": "modbus", "mode": "tcp", "host": outlet.host, "port": outlet.port}
    assert isinstance(outlet, Pty)
    return {"transport": "modbus", "mode": "rtu", "port": str(outlet.path), "baud": 115_200}


def often(*reads: str, timeout_s: float = 5) -> dict[str, object]:
    """``[device.set]`` that asks as fast as it goes; a short ``timeout_s`` where silence is waited for."""
    return {"reads": {read: {"every_s": 0.02, "timeout_s": timeout_s} for read in reads}}


def asks(profile: Profile) -> frozenset[bytes]:
    """All that the profile would have said to a device."""
    return frozenset(read.request for read in profile.reads.values() if isinstance(read, RequestRead))


async def each_fault_raises_its_own(
    device: Simulator, floor: Watched, raises: Mapping[str, str], harmless: Collection[str] = ()
) -> None:
    """Every fault that the device knows, but ``mute``, is exactly one condition and ends with it."""
    assert {*raises, *harmless, "mute"} == set(device.faults)
    assert await floor.settled() == frozenset()
    for fault in device.faults:
        if fault != "mute":
            device.set(fault)
            expected = {raises[fault]} if fault in raises else set()
            assert await floor.settled() == expected, fault
            device.set(fault, False)
            assert await floor.settled() == frozenset(), fault

"""A device as the agent watches it: who it is, where it stands, how it is read."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    id: str
    # area/line/station inside the site; may be empty.
    place: str
    bus: str
    # The profile with this device's ``[device.set]`` already laid over it.
    profile: Profile
    # Modbus unit id.
    unit: int = 1
    # Registers that it answers in one request, where that is less than its profile says; None: as that says.
    max_registers: int | None = None
    # The devices without which this one is silent: a power supply, an I/O module, a controller.
    fed_by: tuple[str, ...] = ()
    # MQTT: what ``{topic}`` in the profile's topics stands for.
    topic: str = ""

    @property
    def registers_at_once(self) -> int:
        said = self.profile.max_registers
        return said if self.max_registers is None else min(self.max_registers, said)

"""What the serial ports of this machine are called, and which of their names stays when they are replugged.

The kernel numbers USB adapters in the order in which they come: a ``ttyUSB0`` that is pulled while it is
open returns as ``ttyUSB1``, and after a reboot two may have changed places. udev gives each two names that
last: ``by-id`` follows the adapter (maker, model, serial number) into whatever socket, ``by-path`` follows
the socket, whatever adapter is in it. Adapters of one kind that have no serial numbers, or the same, share
one ``by-id`` name, and it leads to one of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo

FOLDER = Path("/dev/serial")
# What the kernel numbers as it comes; ports on the board keep their numbers.
NUMBERED = re.compile(r"/dev/tty(USB|ACM)\d+")
# More names than that are no help in a sentence.
NAMES_IN_A_SENTENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port that is there now; a name is empty when there is none of that kind."""

    node: str
    by_id: str = ""
    by_path: str = ""
    # No other adapter has this ``by_id``: it carries a serial number.
    own_id: bool = False
    # What the adapter says that it is.
    words: str = ""

    @property
    def lasting(self) -> str:
        """What to write in agent.toml; empty when this port has no name that stays."""
        if self.by_id and self.own_id:
            return self.by_id
        return self.by_path or self.by_id or ("" if NUMBERED.fullmatch(self.node) else self.node)


def found(folder: Path | None = None) -> tuple[Port, ...]:
    """The ports of this machine, in the order of their nodes."""
    by_id, by_path = (_links((folder or FOLDER) / kind) for kind in ("by-id", "by-path"))
    known = {info.device: info for info in _known()}
    without_a_name = {_kind(info) for node, info in known.items() if node not in by_id}
    ports = []
    for node in sorted({*by_id, *by_path, *known}):
        info = known.get(node)
        ports.append(
            Port(
                node=node,
                by_id=by_id.get(node, ""),
                by_path=by_path.get(node, ""),
                own_id=bool(info and info.serial_number and _kind(info) not in without_a_name),
                words=" ".join(filter(None, (info.manufacturer, info.product))) if info else "",
            )
        )
    return tuple(ports)


def hint(name: str, ports: Sequence[Port]) -> str:
    """What is wrong with calling a port so, and what to write instead; empty for a good name.

    Says nothing of a port that is not there: ``missing`` does.
    """
    port = next((port for port in ports if name in (port.node, port.by_id, port.by_path)), None)
    if NUMBERED.fullmatch(name):
        may = f"{name} is another adapter as soon as they are plugged in in another order"
        if port is None or not port.lasting:
            return f"{may}; `edge-agent ports` shows which names stay"
        return f'{may}; write port = "{port.lasting}"'
    if port is not None and name == port.by_id and not port.own_id and port.by_path:
        return (
            f"{name} is the name of any adapter of that kind: it carries no serial number of its own;"
            f' write port = "{port.by_path}", the socket that it is in'
        )
    return ""


def missing(name: str, ports: Sequence[Port]) -> str:
    """Why a port of that name may not be there."""
    names = [port.lasting for port in ports if NUMBERED.fullmatch(port.node) and port.lasting]
    if not NUMBERED.fullmatch(name) or not names:
        return "unplugged?"
    more = f" and {len(names) - NAMES_IN_A_SENTENCE} more" if len(names) > NAMES_IN_A_SENTENCE else ""
    return (
        f"unplugged, or back under another number? There is {', '.join(names[:NAMES_IN_A_SENTENCE])}{more}:"
        " a name that stays; write it in agent.toml"
    )


def _links(folder: Path) -> dict[str, str]:
    """Node to the first of its names in that folder of udev's."""
    try:
        links = sorted(folder.iterdir(), reverse=True)
    except OSError:
        return {}
    return {str(link.resolve()): str(link) for link in links}


def _known() -> list[ListPortInfo]:
    # Late: `edge-agent run` asks when a port is missing, and never else.
    from serial.tools.list_ports import comports

    try:
        return list(comports())
    except (OSError, TypeError, ValueError):
        # pyserial stumbles over an adapter that is pulled while it looks.
        return []


def _kind(info: ListPortInfo) -> tuple[int | None, int | None, str | None]:
    return info.vid, info.pid, info.serial_number

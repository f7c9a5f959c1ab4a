"""A Sparkplug B edge node of another maker (pysparkplug), in a process and an environment of its own.

    with EdgeNode(broker, "hall-1", "gw-7", [metric("Motor/Running", True, alias=1)]) as node:
        node.device("conveyor-3", [metric("Jam", False, alias=10)])
        node.connect()                                         # NBIRTH and the DBIRTH of each device
        node.data("conveyor-3", [metric("Jam", True)])         # DDATA with names; the device None: NDATA
        node.message("DDATA", "conveyor-3", [metric(None, True, alias=10)], seq=9)    # whatever seq and alias
        node.device_ends("conveyor-3")                         # DDEATH
        node.disconnect()                                      # NDEATH, said by the node itself
        node.kill()                                            # NDEATH, said by the broker: the will

The library counts ``seq`` and ``bdSeq`` by itself. ``message`` goes around that: it publishes what a node in
disorder would, and the library's own count goes on as if nothing had been said. Messages have QoS 0, so an
order that has returned is on its way and perhaps not there: wait for what it does.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rigs.mosquitto import Broker

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sparkplug" / "bin" / "python"
PROGRAM = Path(__file__).with_name("sparkplug_publisher.py")
DATATYPES = {bool: "BOOLEAN", int: "INT64", float: "DOUBLE", str: "STRING"}

Value = bool | int | float | str
Metric = dict[str, object]


class RefusedError(Exception):
    """The library would not do it; the text is its own."""


def metric(
    name: str | None,
    value: Value | None,
    *,
    alias: int | None = None,
    datatype: str = "",
    timestamp_ms: int | None = None,
    historical: bool = False,
) -> Metric:
    """``name`` None: told by its alias alone. ``value`` None: a null. ``datatype`` as in the specification,
    ``UINT16`` and so on; empty: by the value's Python type, which a null does not have."""
    return {
        "name": name,
        "value": value,
        "alias": alias,
        "datatype": datatype or DATATYPES[type(value)],
        "timestamp": now_ms() if timestamp_ms is None else timestamp_ms,
        "is_historical": historical,
        "is_null": value is None,
    }


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class EdgeNode:
    def __init__(self, broker: Broker, group: str, node: str, metrics: Sequence[Metric] = ()) -> None:
        assert PYTHON.exists(), f"{PYTHON} is missing: make peers"
        self._program = subprocess.Popen(
            [PYTHON, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        username, password = next(iter(broker.users.items()), (None, None))
        self._order(
            group=group,
            node=node,
            port=broker.port,
            username=username,
            password=password,
            metrics=list(metrics),
        )

    def __enter__(self) -> EdgeNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def connect(self) -> None:
        self._order(do="connect")

    def disconnect(self) -> None:
        self._order(do="disconnect")

    def device(self, name: str, metrics: Sequence[Metric]) -> None:
        """Before or after ``connect``."""
        self._order(do="device", device=name, metrics=list(metrics))

    def device_ends(self, name: str) -> None:
        self._order(do="device_ends", device=name)

    def data(self, device: str | None, metrics: Sequence[Metric]) -> None:
        self._order(do="data", device=device, metrics=list(metrics))

    def message(
        self,
        kind: str,
        device: str | None,
        metrics: Sequence[Metric],
        *,
        seq: int,
        with_datatypes: bool = False,
    ) -> None:
        """``kind``: NDATA, DDATA, NBIRTH or DBIRTH; a birth always has its datatypes."""
        self._order(
            do="message",
            message=kind,
            device=device,
            metrics=list(metrics),
            seq=seq,
            timestamp=now_ms(),
            with_datatypes=with_datatypes,
        )

    def kill(self) -> None:
        self._program.kill()
        # Closes its pipes too.
        self._program.communicate()

    def _order(self, **order: object) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        answer = self._program.stdout.readline()
        assert answer, f"the publisher ended with {self._program.wait()}"
        if why := json.loads(answer).get("refused"):
            raise RefusedError(why)

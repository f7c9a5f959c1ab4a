"""One edge node of pysparkplug, told on its standard input what to do; runs in ``.venv-sparkplug`` alone.

One order a line, in JSON; each is answered by a line: ``{}``, or ``{"refused": why}``. ``rigs.sparkplug`` is
the other end and says what the orders mean. Nothing of Andon is imported: what both got wrong would not show.
"""

from __future__ import annotations

import json
import sys

import pysparkplug as sparkplug

MESSAGES = {
    "NDATA": sparkplug.NData,
    "DDATA": sparkplug.DData,
    "NBIRTH": sparkplug.NBirth,
    "DBIRTH": sparkplug.DBirth,
}


def metric(told: dict) -> sparkplug.Metric:
    return sparkplug.Metric(
        timestamp=told["timestamp"],
        name=told.get("name"),
        datatype=sparkplug.DataType[told["datatype"]],
        value=told.get("value"),
        alias=told.get("alias"),
        is_historical=told.get("is_historical", False),
        is_null=told.get("is_null", False),
    )


def metrics(order: dict) -> tuple[sparkplug.Metric, ...]:
    return tuple(metric(told) for told in order["metrics"])


class Node:
    def __init__(self, order: dict) -> None:
        self._client = sparkplug.Client(username=order["username"], password=order["password"])
        self._group, self._name = order["group"], order["node"]
        self._port = order["port"]
        self._node = sparkplug.EdgeNode(self._group, self._name, metrics(order), client=self._client)

    def connect(self, order: dict) -> None:
        self._node.connect("127.0.0.1", port=self._port)

    def disconnect(self, order: dict) -> None:
        self._node.disconnect()

    def device(self, order: dict) -> None:
        self._node.register(sparkplug.Device(order["device"], metrics(order)))

    def device_ends(self, order: dict) -> None:
        self._node.deregister(order["device"])

    def data(self, order: dict) -> None:
        if order["device"] is None:
            self._node.update(metrics(order))
        else:
            self._node.update_device(order["device"], metrics(order))

    def message(self, order: dict) -> None:
        kind = sparkplug.MessageType[order["message"]]
        self._client.publish(
            sparkplug.Message(
                topic=sparkplug.Topic(
                    message_type=kind,
                    group_id=self._group,
                    edge_node_id=self._name,
                    device_id=order["device"],
                ),
                payload=MESSAGES[order["message"]](
                    timestamp=order["timestamp"], seq=order["seq"], metrics=metrics(order)
                ),
                qos=sparkplug.QoS.AT_MOST_ONCE,
                retain=False,
            ),
            include_dtypes=order["with_datatypes"],
        )


def main() -> None:
    node = Node(json.loads(sys.stdin.readline()))
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            getattr(node, order["do"])(order)
        except Exception as error:  # noqa: BLE001  # whatever the library raises is its answer
            print(json.dumps({"refused": f"{type(error).__name__}: {error}"}), flush=True)
        else:
            print("{}", flush=True)


if __name__ == "__main__":
    main()

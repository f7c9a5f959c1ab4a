"""One connection to an MQTT broker: paho keeps the protocol, the event loop moves its bytes.

So there is no thread to stop and nothing to lock. Arrivals wait in a bounded queue; while it is full nothing
is read from the broker, which keeps the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.bus import LinkError, RefusedError

# Arrivals that wait for the journal.
QUEUE = 100
# Packets taken in one go before the rest of the agent gets its turn.
PACKETS_AT_ONCE = 32
CONNACK_TIMEOUT_S = 5.0
# paho wants to look at its keepalive about so often.
MISC_S = 1.0
RESUBSCRIBE_S = 60.0
FILTERS_PER_SUBSCRIBE = 50
# CONNACK reasons that heal by themselves (MQTT 5.0, 3.2.2.2): unavailable, busy, use another, moved, rate.
PASSING_REASONS = frozenset({0x88, 0x89, 0x9C, 0x9F})
# MQTT 5.0, 3.14.2.1; paho says it too when nothing answered its PINGREQ.
KEEP_ALIVE_TIMEOUT = 0x8D


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One message as it came. ``topic`` is None when it is not UTF-8."""

    topic: str | None
    payload: bytes
    qos: int
    mid: int
    retained: bool
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The broker will not let us read these topics."""

    filters: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The broker lets us read these topics; what it has retained of them comes about now."""

    filters: tuple[str, ...]


class Connection:
    """A client that has sent its CONNECT. ``next`` brings what came, then raises why it ended."""

    def __init__(self, client: Client, where: str) -> None:
        self._client = client
        self._where = where
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[bool] = self._loop.create_future()
        self._arrivals: deque[Arrival] = deque()
        self._answers: deque[Grant | Refusal] = deque()
        self._asked: dict[int, tuple[str, ...]] = {}
        self._news = asyncio.Event()
        self._ended: LinkError | None = None
        self._farewell = ""
        self._full = False
        self._looking: asyncio.TimerHandle | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_socket_close = self._on_socket_close
        opened = client.socket()
        self._fd = opened.fileno() if opened is not None else -1
        if self._fd < 0:
            self._end(LinkError(f"the broker {where} closed the connection"))
            return
        self._loop.add_reader(self._fd, self._readable)
        self._move(lambda: MQTTErrorCode.MQTT_ERR_SUCCESS)
        self._looking = self._loop.call_later(MISC_S, self._look_after)

    async def accepted(self) -> bool:
        """Whether the broker kept our session. Raises LinkError, RefusedError."""
        try:
            async with asyncio.timeout(CONNACK_TIMEOUT_S):
                return await self._accepted
        except TimeoutError as error:
            raise LinkError(
                f"what listens on {self._where} does not answer: it hangs, or does not speak MQTT"
            ) from error

    async def next(self) -> Arrival | Grant | Refusal:
        """In the order in which it came. Raises LinkError once the connection ended and nothing is left."""
        while (news := self._come()) is None:
            self._news.clear()
            await self._news.wait()
        return news

    async def next_within(self, seconds: float) -> Arrival | Grant | Refusal | None:
        """As ``next``; None when nothing came in time."""
        if (news := self._come()) is not None:
            return news
        try:
            async with asyncio.timeout(None if seconds == inf else max(0.0, seconds)):
                return await self.next()
        except TimeoutError:
            return None

    def subscribe(self, wanted: dict[str, int]) -> None:
        """Topic filters and the QoS of each; what the broker says to that is news."""
        filters = list(wanted.items())
        for start in range(0, len(filters), FILTERS_PER_SUBSCRIBE):
            self._move(partial(self._subscribe, filters[start : start + FILTERS_PER_SUBSCRIBE]))

    def subscribe_later(self, wanted: dict[str, int]) -> None:
        self._loop.call_later(RESUBSCRIBE_S, self.subscribe, wanted)

    def acknowledge(self, arrival: Arrival) -> None:
        if self._ended is None:
            self._move(lambda: self._client.ack(arrival.mid, arrival.qos))

    def close(self) -> None:
        """Say goodbye if that is possible at once; the broker keeps our session."""
        if self._ended is None:
            self._ended = LinkError("closed by us")
            self._client.disconnect()
        opened = self._client.socket()
        if opened is not None:
            self._forget_socket()
            opened.close()

    def _come(self) -> Arrival | Grant | Refusal | None:
        """What has come already. Raises LinkError as ``next`` does."""
        if self._answers:
            return self._answers.popleft()
        if self._arrivals:
            arrival = self._arrivals.popleft()
            self._go_on_reading()
            return arrival
        if self._ended is not None:
            raise self._ended
        return None

    # --- moving paho ---

    def _subscribe(self, filters: list[tuple[str, int]]) -> MQTTErrorCode:
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            code, mid = self._client.subscribe([(name, SubscribeOptions(qos=qos)) for name, qos in filters])
        else:
            code, mid = self._client.subscribe(filters)
        if mid is not None:
            self._asked[mid] = tuple(name for name, _ in filters)
        return code

    def _readable(self) -> None:
        """As long as messages come: that saves a round of the loop for each, at the cost of one vain read."""
        for _ in range(PACKETS_AT_ONCE):
            before = len(self._arrivals)
            if self._full or not self._move(self._read):
                return
            if len(self._arrivals) == before and not self._holds_more():
                return
        if self._holds_more():
            # The descriptor no longer shows what TLS holds back.
            self._loop.call_soon(self._readable)

    def _read(self) -> MQTTErrorCode:
        try:
            return self._client.loop_read()
        except Exception as error:  # noqa: BLE001  # paho raises what malformed packets make it stumble over
            self._farewell = f"it sent what is not MQTT ({type(error).__name__})"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _holds_more(self) -> bool:
        opened = self._client.socket()
        return isinstance(opened, ssl.SSLSocket) and opened.pending() > 0

    def _writable(self) -> None:
        self._move(self._client.loop_write)

    def _look_after(self) -> None:
        if self._move(self._client.loop_misc):
            self._looking = self._loop.call_later(MISC_S, self._look_after)

    def _move(self, step: Callable[[], MQTTErrorCode]) -> bool:
        """One step of paho; False when the connection is over."""
        if self._ended is not None:
            return False
        code = step()
        if self._ended is None and (code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None):
            self._end(
                LinkError(f"the broker {self._where}: {self._farewell or error_string(code).rstrip('.')}")
            )
        if self._ended is not None:
            return False
        if self._client.want_write():
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)
        return True

    def _go_on_reading(self) -> None:
        if self._full and self._ended is None and len(self._arrivals) <= QUEUE // 2:
            self._full = False
            self._loop.add_reader(self._fd, self._readable)
            if self._holds_more():
                self._loop.call_soon(self._readable)

    def _end(self, why: LinkError) -> None:
        if self._ended is None:
            self._ended = why
            self._forget_socket()
        if not self._accepted.done():
            self._accepted.set_exception(why)
            # Nobody may be waiting for it.
            self._accepted.exception()
        self._news.set()

    def _forget_socket(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1
        if self._looking is not None:
            self._looking.cancel()

    # --- what paho tells ---

    def _on_connect(
        self, client: Client, userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        if not reason.is_failure:
            if not self._accepted.done():
                self._accepted.set_result(flags.session_present)
            return
        why = f"the broker {self._where} refuses us: {reason}"
        self._end(LinkError(why) if reason.value in PASSING_REASONS else RefusedError(why))

    def _on_disconnect(
        self, client: Client, userdata: object, flags: DisconnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._farewell = str(reason)
        elif reason.value == KEEP_ALIVE_TIMEOUT:
            self._farewell = "it gave no sign of life: hanging, switched off, or the network is down?"
        else:
            self._farewell = "the connection broke: stopped, switched off, or the network is down?"

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        try:
            name: str | None = message.topic
        except UnicodeDecodeError:
            name = None
        self._arrivals.append(
            Arrival(
                topic=name,
                payload=bytes(message.payload),
                qos=message.qos,
                mid=message.mid,
                retained=message.retain,
                again=message.dup,
            )
        )
        if len(self._arrivals) >= QUEUE and self._fd >= 0:
            self._full = True
            self._loop.remove_reader(self._fd)
        self._news.set()

    def _on_subscribe(
        self, client: Client, userdata: object, mid: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        asked = self._asked.pop(mid, ())
        answers = list(zip(asked, reasons, strict=False))
        if granted := tuple(name for name, reason in answers if not reason.is_failure):
            self._answers.append(Grant(filters=granted))
        if refused := [(name, reason) for name, reason in answers if reason.is_failure]:
            self._answers.append(
                Refusal(filters=tuple(name for name, _ in refused), reason=str(refused[0][1]))
            )
        self._news.set()

    def _on_socket_close(self, client: Client, userdata: object, closing: object) -> None:
        self._forget_socket()

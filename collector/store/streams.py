"""Gateways as they speak: contact, streams and their positions, clock offsets, inventory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, insert, literal, or_, select, update

from collector import dating
from collector.dating import ClockSample
from collector.store import bulk
from collector.store.bulk import among
from collector.store.tables import (
    absence,
    boot_offset,
    device,
    gap,
    gateway,
    loss,
    occurrence,
    orphan,
    stream,
    ticket,
)
from edge_agent.wire import ORIGIN, Boundary, Inventory, Stamp, mono_ms

# Two boxes with one disk begin streams without end.
MAX_BELIEVED = 64
# Hours of one boot that are asked for one by one.
MAX_NEAR = 50
_GAP = ("from_seq", "to_seq", "count", "from_ms", "to_ms")
# Moments of a gateway by which timers run.
_SINCE = ("last_contact_ms", "caught_up_ms", "switched_ms")


class GatewayState(NamedTuple):
    created_ms: int
    credential_id: str | None
    revoked_ms: int | None
    last_contact_ms: int | None
    caught_up_ms: int | None
    silent_ms: int | None
    clock_ms: int | None
    clock_told: bool
    cloned_ms: int | None
    switched_ms: int | None
    switches: list[list[Any]] | None
    inventory_hash: str | None
    in_question: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    gateway_id: str
    hwm: Boundary
    live: bool
    # The newest position of which something was told ahead of the history; 0 when nothing was.
    told_ahead: int = 0

    @property
    def doubted(self) -> bool:
        """Nobody has shown yet that it is not an old one whose messages come late: it stands at a challenge.
        (``begin_stream`` takes the challenge from a stream that it supersedes.)
        """
        return not self.live and self.hwm[0] == 0 and tuple(self.hwm) != ORIGIN


def insert_for(connection: Connection) -> Any:
    """INSERT that knows ON CONFLICT; the two databases spell it alike, SQLAlchemy keeps them apart."""
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert


_GATEWAYS = (
    select(gateway.c.id, *(gateway.c[name] for name in GatewayState._fields))
    .where(among(gateway.c.id, "ids"))
    .order_by(gateway.c.id)
    .with_for_update()
)
_STREAMS = select(
    stream.c.id, stream.c.gateway_id, stream.c.hwm_seq, stream.c.hwm_nonce, stream.c.live, stream.c.told_ahead
).where(among(stream.c.id, "ids"))


_PLACES = (
    select(device.c.id, device.c.place)
    .where(device.c.site == bindparam("site"), among(device.c.id, "devices"))
    .order_by(device.c.gone_ms.is_(None), device.c.first_ms, device.c.gateway_id)
)


def lock_gateways(connection: Connection, gateway_ids: Collection[str]) -> dict[str, GatewayState]:
    """Until the end of the transaction no other message of these is judged. Sorted, so that no two wait in a
    ring.
    """
    found = connection.execute(_GATEWAYS, {"ids": gateway_ids}).all()
    return {row[0]: GatewayState._make(row[1:]) for row in found}


def lock_gateway(connection: Connection, gateway_id: str) -> GatewayState:
    return lock_gateways(connection, [gateway_id])[gateway_id]


def save_gateway(connection: Connection, gateway_id: str, **values: Any) -> None:
    connection.execute(update(gateway).where(gateway.c.id == gateway_id).values(**values))


def stream_states(connection: Connection, stream_ids: Collection[str]) -> dict[str, StreamState]:
    return {
        stream_id: StreamState(gateway_id=gateway_id, hwm=(seq, nonce), live=live, told_ahead=told_ahead)
        for stream_id, gateway_id, seq, nonce, live, told_ahead in (
            connection.execute(_STREAMS, {"ids": stream_ids}).all()
        )
    }


def is_heard(connection: Connection, gateway_id: str) -> bool:
    """Whether it has a stream that is believed."""
    found = connection.execute(select(stream.c.id).where(stream.c.gateway_id == gateway_id, stream.c.live))
    return found.first() is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    id: str
    # The clock of the message with which it began; None: from before this was kept.
    boot: str | None
    mono_ms: int


def believed(connection: Connection, gateway_id: str) -> list[Believed]:
    """The newest streams of a gateway, the one that counts last."""
    found = connection.execute(
        select(stream.c.id, stream.c.boot, stream.c.mono_ms)
        .where(stream.c.gateway_id == gateway_id, stream.c.begun_ms.is_not(None))
        .order_by(stream.c.live.desc(), stream.c.begun_ms.desc())
        .limit(MAX_BELIEVED)
    ).all()
    return [Believed(id=row.id, boot=row.boot, mono_ms=row.mono_ms or 0) for row in reversed(found)]


def doubt(
    connection: Connection, stream_id: str, gateway_id: str, challenge: Boundary, now_ms: int
) -> StreamState | None:
    """Nothing is taken of it until a message goes on from ``challenge``. None: another gateway has used it at
    this moment.
    """
    added = connection.execute(
        insert_for(connection)(stream)
        .values(
            id=stream_id,
            gateway_id=gateway_id,
            hwm_seq=challenge[0],
            hwm_nonce=challenge[1],
            live=False,
            created_ms=now_ms,
        )
        .on_conflict_do_nothing()
        .returning(stream.c.id)
    )
    if added.first() is None:
        return None
    return StreamState(gateway_id=gateway_id, hwm=challenge, live=False)


def begin_stream(
    connection: Connection, stream_id: str, gateway_id: str, hwm: Boundary, clock: Stamp, now_ms: int
) -> bool:
    """It supersedes the gateway's older ones; other challenges are void. False: another gateway has begun it
    at this moment.
    """
    own = stream.c.gateway_id == gateway_id
    connection.execute(update(stream).where(own, stream.c.live).values(live=False))
    connection.execute(update(stream).where(own, stream.c.hwm_seq == 0).values(hwm_nonce=ORIGIN[1]))
    begun = {
        "hwm_seq": hwm[0],
        "hwm_nonce": hwm[1],
        "live": True,
        "begun_ms": now_ms,
        "boot": clock.boot,
        "mono_ms": mono_ms(clock),
    }
    began = connection.execute(
        insert_for(connection)(stream)
        .values(id=stream_id, gateway_id=gateway_id, created_ms=now_ms, **begun)
        .on_conflict_do_update(index_elements=[stream.c.id], set_=begun, where=own)
        .returning(stream.c.id)
    )
    return began.first() is not None


def advance(connection: Connection, moved: Mapping[str, Boundary]) -> None:
    rows = [{"id": stream_id, "hwm_seq": hwm[0], "hwm_nonce": hwm[1]} for stream_id, hwm in moved.items()]
    bulk.update(connection, stream, "id", ("hwm_seq", "hwm_nonce"), rows)


def tell_ahead(connection: Connection, stream_id: str, seq: int) -> None:
    connection.execute(update(stream).where(stream.c.id == stream_id).values(told_ahead=seq))


def offsets(
    connection: Connection, boots: Collection[tuple[str, str]]
) -> dict[str, dict[str, dict[int, int]]]:
    """By gateway, boot and hour; ``boots`` are (gateway, boot)."""
    found: dict[str, dict[str, dict[int, int]]] = {}
    wanted = [{"gateway_id": gateway_id, "boot": boot} for gateway_id, boot in boots]
    for gateway_id, boot, hour, offset_ms in bulk.matching(
        connection, boot_offset, ("gateway_id", "boot"), ("gateway_id", "boot", "hour", "offset_ms"), wanted
    ):
        found.setdefault(gateway_id, {}).setdefault(boot, {})[hour] = offset_ms
    return found


def offsets_near(
    connection: Connection, hours: Mapping[tuple[str, str], Collection[int]]
) -> dict[str, dict[str, dict[int, int]]]:
    """As ``offsets``, of each (gateway, boot) what has a say in the dates of these hours of it: a boot that
    went on for a year has nine thousand.
    """
    around = [
        {"gateway_id": gateway_id, "boot": boot, "hour": hour}
        for (gateway_id, boot), wanted in hours.items()
        if len(wanted) <= MAX_NEAR
        for hour in dating.around(wanted)
    ]
    found: dict[str, dict[str, dict[int, int]]] = {}
    keys = ("gateway_id", "boot", "hour")
    for gateway_id, boot, hour, offset_ms in bulk.matching(
        connection, boot_offset, keys, (*keys, "offset_ms"), around
    ):
        found.setdefault(gateway_id, {}).setdefault(boot, {})[hour] = offset_ms
    boots = [{"gateway_id": gateway_id, "boot": boot} for gateway_id, boot in hours]
    least = bulk.least(connection, boot_offset, ("gateway_id", "boot"), "offset_ms", boots)
    short = [
        (gateway_id, boot)
        for gateway_id, boot, least_ms in least
        if least_ms is not None
        and not dating.suffices(found.get(gateway_id, {}).get(boot, {}), hours[gateway_id, boot], least_ms)
    ]
    for gateway_id, of_boots in offsets(connection, short).items():
        found.setdefault(gateway_id, {}).update(of_boots)
    return found


def learn_offsets(connection: Connection, samples: Mapping[str, ClockSample]) -> set[str]:
    """``samples`` by gateway; those gateways whose sample tells more than was known: dates of that boot may
    move.
    """
    rows = [
        {"gateway_id": gateway_id, "boot": one.boot, "hour": one.hour, "offset_ms": one.offset_ms}
        for gateway_id, one in samples.items()
    ]
    better = bulk.insert_least(connection, boot_offset, ("gateway_id", "boot", "hour"), "offset_ms", rows)
    return {gateway_id for gateway_id, _, _ in better}


def put_offsets(connection: Connection, gateway_id: str, boot: str, hours: Mapping[int, int]) -> None:
    """Whatever was known of these hours of this boot."""
    statement = update(boot_offset).where(
        boot_offset.c.gateway_id == gateway_id,
        boot_offset.c.boot == boot,
        boot_offset.c.hour == bindparam("the_hour"),
    )
    told = [{"the_hour": hour, "offset_ms": offset_ms} for hour, offset_ms in hours.items()]
    connection.execute(statement.values(offset_ms=bindparam("offset_ms")), told)


def save_inventory(
    connection: Connection, gateway_id: str, site: str, inventory: Inventory, now_ms: int
) -> list[str]:
    """Devices that it no longer names are gone from now on; one that comes back keeps its first date, and
    that it was gone meanwhile. The ids of the tickets whose place is another one now.
    """
    statement = insert_for(connection)(device)
    named = [
        {
            "site": site,
            "id": watched.id,
            "gateway_id": gateway_id,
            "place": clean(watched.place),
            "profile": clean(watched.profile),
            "bus": clean(watched.bus),
            "conditions": [condition.model_dump(mode="json") for condition in watched.conditions],
            "first_ms": now_ms,
            "gone_ms": None,
        }
        for watched in inventory.devices
    ]
    connection.execute(
        update(device)
        .where(device.c.gateway_id == gateway_id, device.c.gone_ms.is_(None))
        .values(gone_ms=now_ms)
    )
    if named:
        _end_absences(connection, gateway_id, [str(one["id"]) for one in named], now_ms)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[device.c.site, device.c.id, device.c.gateway_id],
                set_={
                    name: statement.excluded[name]
                    for name in ("place", "profile", "bus", "conditions", "gone_ms")
                },
            ),
            named,
        )
    save_gateway(connection, gateway_id, inventory_hash=clean(inventory.hash))
    return _moved(connection, site, {str(one["id"]): str(one["place"]) for one in named})


def _end_absences(connection: Connection, gateway_id: str, named: Collection[str], now_ms: int) -> None:
    gone = select(
        device.c.site, device.c.id, device.c.gateway_id, device.c.gone_ms, literal(now_ms, BigInteger)
    ).where(device.c.gateway_id == gateway_id, device.c.id.in_(named), device.c.gone_ms < now_ms)
    connection.execute(insert(absence).from_select(absence.c.keys(), gone))


def _moved(connection: Connection, site: str, place_of: Mapping[str, str]) -> list[str]:
    found = connection.execute(
        select(ticket.c.id, ticket.c.device, ticket.c.place).where(
            ticket.c.site == site, ticket.c.device.in_(place_of), ticket.c.closed_ms.is_(None)
        )
    )
    moved = [(one.id, place_of[one.device]) for one in found if one.place != place_of[one.device]]
    if moved:
        connection.execute(
            update(ticket).where(ticket.c.id == bindparam("the_id")).values(place=bindparam("the_place")),
            [{"the_id": ticket_id, "the_place": place} for ticket_id, place in moved],
        )
    return [ticket_id for ticket_id, _ in moved]


def places(connection: Connection, site: str, devices: Collection[str]) -> dict[str, str]:
    """The place of each device, by the newest inventory that names it."""
    rows = connection.execute(_PLACES, {"site": site, "devices": devices}).all()
    return dict(map(tuple, rows))


def keep_orphans(
    connection: Connection, gateway_id: str, stream_id: str, rows: Iterable[tuple[str, object]], now_ms: int
) -> None:
    values = [
        {"uid": uid, "stream": stream_id, "gateway_id": gateway_id, "received_ms": now_ms, "raw": raw}
        for uid, raw in rows
    ]
    if values:
        connection.execute(insert_for(connection)(orphan).on_conflict_do_nothing(), values)


def gaps(connection: Connection, stream_id: str) -> list[dict[str, int]]:
    rows = connection.execute(
        select(*(gap.c[name] for name in _GAP)).where(gap.c.stream == stream_id).order_by(gap.c.to_seq)
    )
    return [dict(row._mapping) for row in rows]


def declare_gap(
    connection: Connection, gateway_id: str, stream_id: str, now_ms: int, values: Mapping[str, int]
) -> None:
    """One that is known already gets what is known better: its count, its times."""
    connection.execute(
        insert_for(connection)(gap)
        .values(stream=stream_id, gateway_id=gateway_id, at_ms=now_ms, **values)
        .on_conflict_do_update(
            index_elements=[gap.c.stream, gap.c.from_seq, gap.c.to_seq],
            set_={name: values[name] for name in ("count", "from_ms", "to_ms")},
        )
    )


def losses(connection: Connection, gateway_id: str, ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Those of them that were counted: position and count by id."""
    found = connection.execute(
        select(loss.c.id, loss.c.through, loss.c.count).where(
            loss.c.gateway_id == gateway_id, among(loss.c.id, "ids")
        ),
        {"ids": ids},
    )
    return {loss_id: (through, count) for loss_id, through, count in found}


def count_losses(connection: Connection, gateway_id: str, counted: Mapping[str, tuple[int, int]]) -> None:
    """Position and count by id."""
    rows = [
        {"gateway_id": gateway_id, "id": loss_id, "through": through, "count": count}
        for loss_id, (through, count) in counted.items()
    ]
    if rows:
        added = insert_for(connection)(loss)
        taken = {name: added.excluded[name] for name in ("through", "count")}
        connection.execute(
            added.on_conflict_do_update(index_elements=[loss.c.gateway_id, loss.c.id], set_=taken), rows
        )


def fallen_silent(connection: Connection, *, before_ms: int, limit: int) -> list[tuple[str, str, str]]:
    """(id, site, name) of those that spoke once, not since ``before_ms``, and are not known to be silent."""
    rows = connection.execute(
        select(gateway.c.id, gateway.c.site, gateway.c.name)
        .where(
            gateway.c.last_contact_ms < before_ms,
            gateway.c.silent_ms.is_(None),
            gateway.c.revoked_ms.is_(None),
        )
        .order_by(gateway.c.id)
        .limit(limit)
    )
    return [(row.id, row.site, row.name) for row in rows]


def ahead(connection: Connection, *, of_ms: int) -> list[str]:
    """The ids of those of which something was written down as later than that."""
    late = or_(*(gateway.c[name] > of_ms for name in _SINCE))
    return list(connection.execute(select(gateway.c.id).where(late)).scalars())


def pull_back(connection: Connection, gateway_ids: Collection[str], *, of_ms: int, now_ms: int) -> None:
    """What is later than ``of_ms`` counts from now on. They are locked."""
    for name in _SINCE:
        late = gateway.c.id.in_(gateway_ids) & (gateway.c[name] > of_ms)
        connection.execute(update(gateway).where(late).values({name: now_ms}))


def cloned(connection: Connection, *, quiet_since_ms: int) -> list[tuple[str, str, str]]:
    """(id, site, name) of those of which two boxes spoke, but not since ``quiet_since_ms``."""
    rows = connection.execute(
        select(gateway.c.id, gateway.c.site, gateway.c.name)
        .where(
            gateway.c.cloned_ms.is_not(None),
            gateway.c.switched_ms <= quiet_since_ms,
            gateway.c.revoked_ms.is_(None),
        )
        .order_by(gateway.c.id)
    )
    return [(row.id, row.site, row.name) for row in rows]


def revoked_but_open(connection: Connection) -> list[tuple[str, str, str]]:
    """(id, site, name) of revoked gateways of which something is still open."""
    told = select(occurrence.c.uid).where(occurrence.c.gateway_id == gateway.c.id, occurrence.c.open).exists()
    rows = connection.execute(
        select(gateway.c.id, gateway.c.site, gateway.c.name)
        .where(gateway.c.revoked_ms.is_not(None), told)
        .order_by(gateway.c.id)
    )
    return [(row.id, row.site, row.name) for row in rows]


def clean(text: str) -> str:
    """PostgreSQL keeps no NUL in text."""
    return text.replace("\0", "\ufffd")

"""What must hold: at every commit of the collector, after every answer, in the end (docs/reliability.md)."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from simulation import evidence, net, oracle, skew
from simulation.floor import FAULTS
from simulation.hub import EPOCH_MS, SITE, Held
from simulation.ledger import Told

from collector import ingest, report
from collector.command import Outcome, Result
from collector.dating import DRIFT_MS_PER_HOUR, WALL_ERROR_MS
from collector.exchange import GatewayIdentity
from collector.minted import CONTACT_MS
from collector.report import By
from collector.skew import SETTLES_MS, SKEW_MS
from collector.store import tables
from collector.store.moment import BREAK_MS
from collector.sweep import SILENT_MS
from collector.tickets import Acknowledge
from edge_agent import wire
from edge_agent.journal_caps import Caps, Given

if TYPE_CHECKING:
    from simulation.box import Box
    from simulation.people import Wanted
    from simulation.world import World

    from edge_agent.wire import Stamp

REOPEN_WINDOW_MS = 600_000
REALARM_MS = 86_400_000
HORIZON_MS = 30 * 86_400_000
# Stamps are cut to milliseconds.
ROUNDING_MS = 2
# Drift, and collectors that are apart: a wall clock that is off by less more than its neighbours allow may be
# believed.
CONTRADICTED_MS = 600_000
# So late may a message of a box come that was switched off meanwhile, and still be the first of its stream.
LATEST_S = 320.0
# A clock that is off by less is never called wrong (skew.py), give or take the way of a message.
CLOCK_OFF_MS = 29_000

_TWO_OPEN_TICKETS = """
    SELECT dedupe_key FROM ticket WHERE closed_ms IS NULL GROUP BY dedupe_key HAVING count(*) > 1"""
_TICKETS = """
    SELECT id, version, alarm_version, ack_seen, acked_by, acked_ms, place, title, severity, condition, work,
        assignee, first_ms, last_ms, returns, count, resolved_ms, resolved_by, closed_ms, merged_into,
        received_ms
    FROM ticket"""
_WRONG_LINKS = """
    SELECT t.id, t.condition, t.closed_ms, count(o.uid) FROM ticket t
    LEFT JOIN occurrence o ON o.ticket_id = t.id AND o.open
    GROUP BY t.id
    HAVING (count(o.uid) > 0) != (t.condition != 'cleared')
        OR (t.closed_ms IS NOT NULL AND count(o.uid) > 0)"""


_HIDDEN_BEHIND_NOTHING = """
    SELECT t.id, t.because FROM ticket t
    WHERE t.because IS NOT NULL AND t.condition != 'cleared' AND NOT EXISTS (
        SELECT 1 FROM occurrence o JOIN ticket cause ON cause.id = o.ticket_id
        WHERE o.uid = t.because AND o.open AND cause.because IS NULL)"""
_OPENED_TWICE = """
    SELECT ticket_id FROM ticket_entry WHERE reason IN ('opened', 'history')
    GROUP BY ticket_id HAVING count(*) > 1"""
_TAKEN_AWAY = """
    SELECT taken.ticket_id, taken.reason FROM ticket_entry taken
    WHERE taken.reason IN ('resolved_by_itself', 'recurred', 'quiet') AND (
        SELECT last.reason FROM ticket_entry last
        WHERE last.ticket_id = taken.ticket_id AND last.id < taken.id
            AND last.reason IN ('started', 'reopened', 'resolved', 'overridden', 'merged')
        ORDER BY last.id DESC LIMIT 1) IN ('started', 'reopened')"""


@dataclass(slots=True, kw_only=True)
class Memory:
    """What the laws know of one incarnation of the database; a backup has its own."""

    # Ticket -> (the version at which it last called for attention, when that was).
    alarmed: dict[str, tuple[int, float]] = field(default_factory=dict)
    # What is open and unknown -> when its gateway had been heard last before it became so.
    heard_ms: dict[str, int] = field(default_factory=dict)
    # Gateway -> when a message of it was last taken for its own.
    spoke: dict[str, float] = field(default_factory=dict)
    # Since when gateways could be heard: a restart that is quick is no break, nor is a backup that new.
    listening: float = 0.0

    def copy(self) -> Memory:
        return replace(self, alarmed=dict(self.alarmed), heard_ms=dict(self.heard_ms), spoke=dict(self.spoke))


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Before a command: what must not change when it is not the first time."""

    known: bool
    ticket: tuple[Any, ...] | None
    entries: int
    audited: int


@dataclass(slots=True)
class Laws:
    world: World
    # As of the last commit of this incarnation of the database.
    held: dict[str, Held] = field(default_factory=dict)
    positions: dict[str, tuple[int, str]] = field(default_factory=dict)
    tickets: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    restored_at: float = -1.0
    # dedupe key -> since when (in seconds of the world) the oldest fault has been there that is open here.
    open_since: dict[str, float] = field(default_factory=dict)
    # How often a gateway had fallen silent when that was looked at last.
    silences: int = 0
    # stream -> the highest position that was ever durable.
    highest: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # When a collector first held it, in whatever incarnation.
    known_at: dict[str, float] = field(default_factory=dict)
    # What a collector ever held as ended by its edge.
    held_closed: set[str] = field(default_factory=set)
    # Boot -> when anything of it was heard first.
    boots_heard: dict[str, float] = field(default_factory=dict)
    # What the last commit opened, and what a stream that is believed has ever told.
    opened: set[str] = field(default_factory=set)
    believed: set[str] = field(default_factory=set)
    # What it opened that was in a message of another stream, perhaps not in that alone.
    disbelieved: set[str] = field(default_factory=set)
    # (uid, rev) that were ever sent without a field of a later version.
    sent_plain: set[tuple[str, int]] = field(default_factory=set)

    # --- at every step ----------------------------------------------------------------------------------

    def restored(self, memory: Memory, made_at: float) -> None:
        """Another incarnation: what it forgot is no break of a law. ``made_at``: when the backup was made."""
        hub = self.world.hub
        self.held, self.positions, self.tickets = hub.occurrences(), hub.positions(), self._tickets()
        self.open_since = self._open_since(self.held)
        self.memory, self.restored_at = memory, self.world.now
        if self.world.now - made_at > BREAK_MS / 1000:
            self.memory.listening = self.world.now

    def after_commit(self, told: set[str]) -> None:
        """``told``: the tickets of which open pages hear."""
        world, hub = self.world, self.world.hub
        if world.failure is not None:
            return
        world.count("commits checked")
        raw = hub.database.raw
        if two := raw.execute(_TWO_OPEN_TICKETS).fetchone():
            world.fail(f"I2: two open tickets of {two[0]}")
        if wrong := raw.execute(_WRONG_LINKS).fetchone():
            world.fail(
                f"I5: ticket {wrong[0]} is {wrong[1]}, closed {wrong[2]}, with {wrong[3]} open occurrences"
            )
        if hidden := raw.execute(_HIDDEN_BEHIND_NOTHING).fetchone():
            world.fail(f"I13: ticket {hidden[0]} is hidden behind {hidden[1]}, which nobody can see")
        if twice := raw.execute(_OPENED_TWICE).fetchone():
            world.fail(f"I11: ticket {twice[0]} was opened twice")
        held, positions, tickets = hub.occurrences(), hub.positions(), self._tickets()
        self._monotone(held, positions)
        for uid, one in held.items():
            if not one.open and not one.estimated:
                self.held_closed.add(uid)
            if uid not in self.held:
                self._made_by_its_owner(one)
                self._rightly_made_here(one)
                self.known_at.setdefault(uid, world.now)
        self._become_unknown(held)
        self._rightly_opened()
        self.opened = {uid for uid, one in held.items() if one.open and uid not in self.held}
        changed = {ticket_id for ticket_id, now in tickets.items() if self.tickets.get(ticket_id) != now}
        if untold := changed - told:
            world.fail(f"I11: no page hears that these tickets have changed: {sorted(untold)}")
        self._monotone_tickets(tickets)
        open_since = self._open_since(held)
        for key, since in self.open_since.items():
            if key not in open_since:
                self._rightly_closed(key, since)
        self.held, self.positions, self.open_since, self.tickets = held, positions, open_since, tickets

    def _become_unknown(self, held: dict[str, Held]) -> None:
        unknown = {uid for uid, one in held.items() if one.open and one.unknown}
        lost = unknown - self.memory.heard_ms.keys()
        for uid in self.memory.heard_ms.keys() - unknown:
            del self.memory.heard_ms[uid]
        if lost:
            last = {row["id"]: row["last_contact_ms"] for row in self.world.hub.all_of(tables.gateway)}
            self.memory.heard_ms |= {uid: last[held[uid].gateway_id] for uid in lost}

    def _rightly_opened(self) -> None:
        """Now that all is known of who told what the last commit brought."""
        if wrongly := self.disbelieved - self.believed:
            self.world.fail(f"I7: a stream that is not believed has opened {sorted(wrongly)}")
        self.disbelieved.clear()

    def _tickets(self) -> dict[str, tuple[Any, ...]]:
        return {row[0]: tuple(row) for row in self.world.hub.database.raw.execute(_TICKETS)}

    def _monotone_tickets(self, tickets: dict[str, tuple[Any, ...]]) -> None:
        for ticket_id, row in tickets.items():
            version, alarm_version = row[1], row[2]
            if ticket_id in self.tickets and version < self.tickets[ticket_id][1]:
                self.world.fail(
                    f"I8: ticket {ticket_id} had version {self.tickets[ticket_id][1]}, now {version}"
                )
            if self.memory.alarmed.get(ticket_id, (0, 0.0))[0] != alarm_version:
                self.memory.alarmed[ticket_id] = alarm_version, self.world.now
        if self.tickets.keys() - tickets.keys():
            self.world.fail("I8: a ticket is gone")

    def _monotone(self, held: dict[str, Held], positions: dict[str, tuple[int, str]]) -> None:
        for uid, was in self.held.items():
            now = held.get(uid)
            if now is None or now.rank < was.rank:
                self.world.fail(f"I8: occurrence {uid} was {was}, is {now}")
        for stream, position in self.positions.items():
            if stream not in positions or positions[stream][0] < position[0]:
                self.world.fail(f"I8: stream {stream} stood at {position}, now at {positions.get(stream)}")
        for stream, position in positions.items():
            self.highest[stream] = max(self.highest[stream], position[0])

    def _made_by_its_owner(self, one: Held) -> None:
        if one.minted:
            return
        told = self.world.ledger.told.get(one.uid)
        if told is None or told.box.gateway.id != one.gateway_id:
            self.world.fail(f"I6: nobody made {one}")

    def _rightly_made_here(self, one: Held) -> None:
        """Of what collectors find out by themselves nothing is made up."""
        if not one.minted or not one.open:
            return
        fault = one.dedupe_key.rpartition("|")[2]
        self.world.count(f"gateways called {fault}")
        if fault == wire.SILENT:
            self._silent(one)
        elif fault == wire.CLONED and one.gateway_id not in self.world.cloned:
            self.world.fail(f"C7: {one.gateway_id} is called cloned, there never was a second box")
        elif fault == wire.CLOCK and self._clock_was_right(one.gateway_id, CLOCK_OFF_MS, since_s=3_400):
            # A late message is told by others of its boot. A database that was put back has forgotten them,
            # in a long quiet time there are hours between two, and there may have been none but late ones.
            if self.world.hub.incarnation or self.world.figures["leaps"] or self._all_late(one.gateway_id):
                return
            self.world.fail(f"clock: that of {one.gateway_id} is called wrong, it was right")

    def _all_late(self, gateway_id: str) -> bool:
        """Whether of one of its boots there came nothing for a minute but messages that took about as long as
        a clock has to be off to be called wrong: nobody can tell the one from the other.
        """
        settled_s = (SETTLES_MS - 2 * self.world.dials.clocks_apart_ms) / 1000
        ways_ms: dict[str, float] = defaultdict(lambda: math.inf)
        for row in self.world.hub.all_of(tables.boot_offset):
            for box in self.world.boxes:
                if box.gateway.id == row["gateway_id"] == gateway_id and row["boot"] in box.boots:
                    way_ms = _way_ms(box, row["boot"], row["hour"], row["offset_ms"])
                    ways_ms[row["boot"]] = min(ways_ms[row["boot"]], way_ms)
        now = self.world.now
        return any(
            way_ms >= CLOCK_OFF_MS and now - self.boots_heard.get(boot, now) >= settled_s
            for boot, way_ms in ways_ms.items()
        )

    def _clock_was_right(self, gateway_id: str, within_ms: int, *, since_s: float) -> bool:
        """The wall clocks of its boxes, as far as what was said of them can be under way still."""
        apart_ms = 2 * self.world.dials.clocks_apart_ms
        errors = self.world.wall_errors[gateway_id]
        lasted = [*(at for at, _ in errors[1:]), float("inf")]
        recent = [
            error_ms
            for (_, error_ms), until in zip(errors, lasted, strict=True)
            if until >= self.world.now - since_s
        ]
        return all(abs(error_ms) < within_ms - apart_ms for error_ms in recent)

    def _silent(self, one: Held) -> None:
        """No gateway is called silent that has spoken within the minute."""
        since_s = self.world.now - max(self.memory.spoke.get(one.gateway_id, 0.0), self.memory.listening)
        allowed_s = (SILENT_MS - CONTACT_MS - 2 * self.world.dials.clocks_apart_ms) / 1000
        if since_s < allowed_s:
            self.world.fail(f"I7: {one.gateway_id} is called silent, it was heard {since_s:.1f} s ago")

    def after_sweep(self, now_ms: int, since_ms: int) -> None:
        """Whoever was not heard of for a minute while somebody listened is called silent; what was resolved a
        day ago and is reported asks again.
        """
        world = self.world
        forgotten = world.hub.database.raw.execute(
            "SELECT id FROM ticket WHERE work = 'resolved' AND condition = 'active' AND resolved_ms <= ?",
            (now_ms - REALARM_MS,),
        ).fetchone()
        if forgotten:
            world.fail(f"I15: ticket {forgotten[0]} was resolved a day ago, its fault goes on")
        if self.silences != world.figures["gateways called silent"]:
            self.silences = world.figures["gateways called silent"]
            self._unknown_is_not_down(now_ms)
        if now_ms - since_ms <= SILENT_MS:
            return
        untold = world.hub.database.raw.execute(
            "SELECT name FROM gateway WHERE last_contact_ms < ? AND silent_ms IS NULL", (now_ms - SILENT_MS,)
        ).fetchone()
        if untold:
            world.fail(f"I7: {untold[0]} is silent, and nobody is told")

    def _unknown_is_not_down(self, now_ms: int) -> None:
        """Promise 6: of a stop that may be over nothing counts as down since it was last known."""
        rows = [row for row in self.world.hub.all_of(tables.occurrence) if row["fault"] in FAULTS]
        database = self.world.hub.database
        with database.spared():
            found = database.write(lambda c: report.downtime(c, SITE, EPOCH_MS, now_ms, By.DEVICE, now_ms))
        down = {
            item.key: max((one.to_ms for one in item.intervals if one.kind == "down"), default=0)
            for item in found.items
        }
        for device in {row["device"] for row in rows}:
            own = [row for row in rows if row["device"] == device]
            known_ms = max(self.memory.heard_ms.get(row["uid"], row["end_ms"] or now_ms) for row in own)
            self.world.count("stops that may be over", known_ms < now_ms)
            if down.get(device, 0) > known_ms:
                self.world.fail(
                    f"promise 6: {device} is down until {down[device]}, it was last known to be at {known_ms}"
                )

    def _open_since(self, held: dict[str, Held]) -> dict[str, float]:
        found: dict[str, float] = {}
        for one in held.values():
            if one.open and not one.minted and one.dedupe_key.rsplit("|", 1)[1] in FAULTS:
                told = self.world.ledger.told.get(one.uid)
                if told is not None:
                    since = told.since_s()
                    found[one.dedupe_key] = min(since, found.get(one.dedupe_key, since))
        return found

    def _rightly_closed(self, key: str, since: float) -> None:
        _, _, device, _, fault = key.split("|")
        world = self.world
        if world.belts[device].there_since(fault) > since + 0.001:
            return
        if any(self._two_boxes_differ(box, device) for box in world.boxes):
            world.count("faults that one of two boxes had not seen yet")
            return
        unwatched = [at for (_, name), at in world.unwatched_at.items() if name == device]
        if any(at >= since for at in unwatched):
            return
        world.fail(f"I7: {key} is called ended though it was there all the time since {since:.3f}")

    def _two_boxes_differ(self, box: Box, device: str) -> bool:
        """Two boxes of one gateway look at different moments, and the one that speaks last is believed."""
        two_until = self.world.cloned.get(box.gateway.id, -LATEST_S)
        return device in box.belts and self.world.now < two_until + LATEST_S

    def sent(self, body: bytes) -> None:
        """Before it arrives: two boxes with one disk may tell of a row in one commit."""
        if not self.world.dials.versions:
            return
        for row in json.loads(body)["rows"]:
            if "uid" in row and "rev" in row and skew.LATER not in row:
                self.sent_plain.add((row["uid"], row["rev"]))

    def after_answer(
        self, gateway: GatewayIdentity, message: wire.SyncRequest, applied: ingest.Applied, newest: bool
    ) -> None:
        """``newest``: no message of its stream shared the commit and came after it.

        Position 0 promises nothing: a challenge is void by the time of the commit when another stream of its
        gateway was believed in it.
        """
        world, answer = self.world, applied.answer
        self.boots_heard.setdefault(message.clock.boot, world.now)
        durable = world.hub.positions().get(answer.stream, wire.ORIGIN)
        other = newest and answer.hwm[0] > 0 and tuple(answer.hwm) != tuple(durable)
        if other or answer.hwm[0] > durable[0]:
            world.fail(f"I4: answered {answer.hwm}, durable is {durable}")
        if applied.quarantined and answer.verdict == "ok" and tuple(answer.hwm) != tuple(message.to):
            world.fail("I13: a row that cannot be read holds up its stream")
        if answer.verdict != "behind":
            self.memory.spoke[gateway.id] = world.now
        told = {row["uid"] for row in message.rows if isinstance(row, dict) and "uid" in row}
        if answer.verdict == "ok":
            self._unknown_fields_are_kept(message)
            self.believed |= told
        else:
            self.disbelieved |= told & self.opened
        if message.lane == "present":
            world.count(f"presents ahead of history, {answer.verdict}")
        else:
            world.count("rows taken in" if message.rows else "heartbeats")

    def _unknown_fields_are_kept(self, message: wire.SyncRequest) -> None:
        for row in message.rows:
            if not isinstance(row, dict) or "uid" not in row or "rev" not in row:
                continue
            if skew.LATER not in row:
                continue
            found = self.world.hub.database.raw.execute(
                "SELECT row FROM occurrence WHERE uid = ? AND NOT estimated", (row["uid"],)
            ).fetchone()
            held = None if found is None else json.loads(found[0])
            kept = held is None or _what_it_says(held) != _what_it_says(row) or skew.LATER in held
            if not kept and (row["uid"], row["rev"]) not in self.sent_plain:
                self.world.fail(f"versions: a field of a later version of {row['uid']} is not kept")

    # --- people -----------------------------------------------------------------------------------------

    def before_command(self, wanted: Wanted) -> Before:
        raw = self.world.hub.database.raw
        known = raw.execute(
            "SELECT 1 FROM command WHERE actor = ? AND key = ?", (wanted.actor.name, wanted.key)
        ).fetchone()
        (audited,) = raw.execute("SELECT count(*) FROM audit").fetchone()
        (entries,) = raw.execute("SELECT count(*) FROM ticket_entry").fetchone()
        ticket = self._tickets().get(wanted.ticket_id)
        return Before(known=known is not None, ticket=ticket, entries=entries, audited=audited)

    def after_command(self, wanted: Wanted, before: Before, outcome: Outcome, now_ms: int) -> None:
        after = self.before_command(wanted)
        if before.known:
            self.world.count("commands that came again")
            if after != before:
                self.world.fail(f"promise 10: a command that came again had an effect: {before}, {after}")
            return
        found = outcome.result is not Result.NOT_FOUND
        took_effect = outcome.result in (Result.APPLIED, Result.MERGED)
        if after.audited - before.audited != found or after.known != took_effect:
            self.world.fail(
                f"promise 9: {wanted} left {after.audited - before.audited} lines in the audit log"
            )
        if after.ticket is None or before.ticket is None:
            return
        _, _, alarm_version, ack_seen, acked_by, acked_ms, *_ = after.ticket
        if before.ticket[3] < alarm_version <= ack_seen and isinstance(wanted.command, Acknowledge):
            self._saw_what_it_covers(wanted)
            assert wanted.command.given_ms is not None
            dated_ms = min(max(wanted.command.given_ms, after.ticket[-1]), now_ms)
            if (acked_by, acked_ms) != (wanted.actor.name, dated_ms):
                self.world.fail(f"promise 10: {wanted} is dated {acked_ms}, of {acked_by}")
            self.world.count("acknowledgements that took effect")

    def _saw_what_it_covers(self, wanted: Wanted) -> None:
        """Not so: the alarm is newer than the look, and nothing that is open was known when its giver looked.
        When a database is put back faster than the clocks of its collectors are apart, nobody can know.
        """
        _, alarmed_at = self.memory.alarmed[wanted.ticket_id]
        if self.restored_at > wanted.look.at:
            self.world.count("acknowledgements of what was seen before a restore")
            if alarmed_at <= wanted.look.at + 2 * self.world.dials.clocks_apart_ms / 1000:
                return
        known = [
            self.known_at[uid]
            for uid, one in self.held.items()
            if one.open and one.ticket_id == wanted.ticket_id
        ]
        if alarmed_at > wanted.look.at and known and min(known) > wanted.look.at:
            self.world.fail(
                f"acknowledged unseen: {wanted.ticket_id} called at {alarmed_at:.3f}, {wanted.actor.name} "
                f"looked at {wanted.look.at:.3f} at version {wanted.look.version}"
            )

    # --- after each exchange of an agent ----------------------------------------------------------------

    def after_exchange(self, box: Box) -> None:
        stream, cursor, _ = box.disk.cursor()
        if cursor > self.highest[stream]:
            self.world.fail(
                f"I4: {box.name} believes that {cursor} is held, it never was more than "
                f"{self.highest[stream]}"
            )

    # --- in the end -------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """All is told, and what a message that came late has closed is looked at anew."""
        told = all(cursor == head for _, cursor, head in (box.disk.cursor() for box in self.world.boxes))
        return told and not any(box.unsettled for box in self.world.boxes)

    def in_the_end(self) -> None:
        self._rightly_opened()
        hub = self.world.hub
        held = hub.occurrences()
        rows = {row["uid"]: row for row in hub.all_of(tables.occurrence)}
        for box in self.world.boxes:
            self._nothing_lost(box, held)
            self._agree(box, held)
        evidence.law(self.world)
        if taken := hub.database.raw.execute(_TAKEN_AWAY).fetchone():
            self.world.fail(f"I14: people had ticket {taken[0]} in hand, and it is {taken[1]}")
        self._tickets_say_what_is(held)
        self._dates(rows)
        self._groups(rows)
        if self.world.failure is None:
            for difference in oracle.differences(self.world):
                self.world.fail(f"promise 3: {difference}")
                break
        self.world.count(
            "occurrences in the end",
        )
        self.world.figures["occurrences"] += len(rows)

    def _spoilt(self, row: dict[str, Any]) -> bool:
        return (row["uid"], row["rev"]) in self.world.ledger.spoilt

    def bounded(self, box: Box) -> None:
        """I9, after each transaction."""
        pages = self.world.dials.caps.journal_bytes // 4096
        if box.disk.pages() > pages:
            self.world.fail(
                f"I9: the journal of {box.name} has {box.disk.pages()} pages, allowed are {pages}"
            )

    def after_start(self, box: Box, anchor: Stamp | None) -> None:
        """E10: the time since the last anchor is told as not observed."""
        if anchor is None:
            return
        newest = [row for row in box.disk.rows() if row["fault"] == wire.NOT_RUNNING][-1:]
        if (
            not newest
            or newest[0]["first_bad"]["mono_ns"] != anchor.mono_ns
            or newest[0]["state"] != "closed"
        ):
            self.world.fail(f"E10: {box.name} does not tell that it did not run since {anchor}")

    def _nothing_lost(self, box: Box, held: dict[str, Held]) -> None:
        there = box.disk.uids()
        dropped = 0
        for row in box.disk.committed.values():
            here = held.get(row["uid"])
            unread = self._spoilt(row) and (
                here is None or here.rank < (row["state"] == "closed", True, row["rev"])
            )
            if unread and self._is_put_aside(box, row):
                continue
            gone = row["uid"] not in there and row["state"] == "closed"
            if gone and (here is None or unread):
                dropped += self._rightly_gone(box, row)
            elif unread:
                self.world.fail(f"I1: {row['uid']} is neither held nor in quarantine")
            elif here is None:
                self.world.fail(f"I1: {row['uid']} ({row['device']} {row['fault']}) is lost")
            elif row["state"] == "closed" and (here.open or here.estimated):
                if row["uid"] in there:
                    self.world.fail(f"I1b: {row['uid']} has ended at the edge, here it is {here}")
                dropped += self._rightly_gone(box, row)
            elif here.rev < row["rev"]:
                self.world.fail(f"I1: {row['uid']} is held as {here}, the edge has rev {row['rev']}")
        counted = box.disk.counted()
        if dropped > counted[Given.OCCURRENCES_DROPPED]:
            self.world.fail(f"I10: {box.name} has lost {dropped}, it counted {dict(counted)}")
        (told,) = self.world.hub.database.raw.execute(
            "SELECT coalesce(sum(count), 0) FROM gap WHERE gateway_id = ?", (box.gateway.id,)
        ).fetchone()
        if dropped > told:
            self.world.fail(f"I10: {box.name} has lost {dropped}, gaps tell of {told}")
        if told > self.world.dropped[box.gateway.id]:
            self.world.fail(
                f"I10: gaps of {box.name} tell of {told}, its disks have ever dropped "
                f"{self.world.dropped[box.gateway.id]}"
            )
        for what, count in counted.items():
            self.world.count(f"full journals: {what}", count)

    def _is_put_aside(self, box: Box, row: dict[str, Any]) -> bool:
        found = self.world.hub.database.raw.execute(
            "SELECT 1 FROM quarantine WHERE gateway_id = ? AND raw LIKE ?",
            (box.gateway.id, f"%{row['uid']}%"),
        ).fetchone()
        return found is not None

    def _rightly_gone(self, box: Box, row: dict[str, Any]) -> bool:
        """Whether a closed row that nobody has any more was dropped for want of room, which a gap has to
        tell. The others were held once, pruned after that, and the database is another one now.
        """
        world = self.world
        if self._past_the_horizon(box, row) and (row["uid"] in self.held_closed or self._spoilt(row)):
            world.count("rows past the horizon")
            return False
        if world.dials.caps == Caps() and not world.dials.full_disks:
            world.fail(f"I1: {row['uid']} ({row['device']} {row['fault']}) is lost")
        if world.hub.incarnation and (row["uid"] in self.held_closed or self._spoilt(row)):
            world.count("rows that a full journal had given up when the database was restored")
            return False
        world.count("rows dropped")
        gap = world.hub.database.raw.execute(
            # A member of a roll-up has moved to the position of the last of them.
            "SELECT 1 FROM gap WHERE gateway_id = ? AND to_seq >= ?",
            (box.gateway.id, row["mod_seq"]),
        ).fetchone()
        if gap is None:
            world.fail(f"I10: {row['uid']} at {row['mod_seq']} is gone, and no gap says so")
        return True

    def _past_the_horizon(self, box: Box, row: dict[str, Any]) -> bool:
        """It was pruned when the collector had had it for 30 days; the collector has forgotten it since."""
        if row["state"] == "open":
            return False
        since_ms = self.world.now_ms - box.truth_ms(row["cleared"])
        return since_ms > HORIZON_MS

    def _agree(self, box: Box, held: dict[str, Held]) -> None:
        at_edge = {row["uid"]: row for row in box.disk.rows() if row["state"] == "open"}
        readable = {uid for uid, row in at_edge.items() if not self._spoilt(row)}
        here = {
            uid
            for uid, one in held.items()
            if one.open and not one.minted and one.gateway_id == box.gateway.id
        }
        unreadable = [row for uid, row in at_edge.items() if uid not in readable]
        stray = {
            uid for uid in here - at_edge.keys() if not self._may_be_about(held[uid].dedupe_key, unreadable)
        }
        if stray or readable - here:
            self.world.fail(
                f"I3: {box.name}: open at the edge only: {sorted(readable - here)}, "
                f"here only: {sorted(stray)}"
            )
        twice = [k for k, n in Counter((held[u].dedupe_key) for u in here & at_edge.keys()).items() if n > 1]
        if twice:
            self.world.fail(f"I2: {box.name}: two open occurrences of {twice}")
        said = {f"{row['device']} {row['fault']}" for row in at_edge.values() if not _pauses(row)}
        true = {f"{n} {fault}" for n in box.belts for fault in self.world.belts[n].faults}
        if said != true:
            self.world.fail(f"I3: {box.name} says {sorted(said)}, true is {sorted(true)}")
        if unknown := [uid for uid in here & at_edge.keys() if held[uid].unknown]:
            self.world.fail(f"I3: still unknown though its gateway speaks: {unknown}")
        self._faults_of_the_box(box)

    def _faults_of_the_box(self, box: Box) -> None:
        """The collector tells of a clock that is wrong, and of nothing that is not."""
        rows = self.world.hub.all_of(tables.occurrence)
        own = [row for row in rows if row["minted"] and row["gateway_id"] == box.gateway.id]
        told = any(row["open"] for row in own if row["fault"] == wire.CLOCK)
        off_ms = abs(box.boots[box.boot].wall_error_ms)
        if told != (off_ms > SKEW_MS) and not SKEW_MS / 2 < off_ms <= SKEW_MS:
            self.world.fail(
                f"{box.gateway.name}: its clock is off by {off_ms} ms, a ticket of that is {told}"
            )

    def _may_be_about(self, key: str, unreadable: list[dict[str, Any]]) -> bool:
        """Whether a row that cannot be read may tell that this goes on though its own disk is gone."""
        return any(
            key == wire.dedupe_key(SITE, row["device"], row["component"], row["fault"])
            or self.world.ledger.spoilt[row["uid"], row["rev"]] == net.NAMELESS
            for row in unreadable
        )

    def _tickets_say_what_is(self, held: dict[str, Held]) -> None:
        tickets = self.world.hub.all_of(tables.ticket)
        on = sorted(
            t["dedupe_key"]
            for t in tickets
            if t["condition"] == "active" and (t["component"] != "agent" or t["fault"] == wire.SILENT)
        )
        watched = {name for box in self.world.boxes for name in box.belts}
        true = sorted(
            f"v1|{SITE}|{name}|{FAULTS[fault]}|{fault}"
            for name in watched
            for fault in self.world.belts[name].faults
        )
        unreadable = [
            row
            for box in self.world.boxes
            for row in box.disk.rows()
            if row["state"] == "open" and self._spoilt(row)
        ]
        keys = {t["dedupe_key"] for t in tickets} | set(true)
        hidden = {key for key in keys if self._may_be_about(key, unreadable)}
        # What comes and goes is active for as long as it may come again.
        on = [key for key in on if key in true or key not in self._pausing()]
        if set(on) - set(true) - hidden or set(true) - set(on) - hidden or len(on) != len(set(on)):
            self.world.fail(f"I3: tickets say {on}, true is {true}, told unreadably {sorted(hidden)}")
        if any(t["condition"] == "unknown" and t["dedupe_key"] not in hidden for t in tickets):
            self.world.fail("I3: a ticket is unknown though all gateways speak")

    def _pausing(self) -> set[str]:
        """Dedupe keys."""
        rows = [row for box in self.world.boxes for row in box.disk.rows() if _pauses(row)]
        self.world.count("faults that pause in the end", len(rows))
        return {wire.dedupe_key(SITE, row["device"], row["component"], row["fault"]) for row in rows}

    def _told(self, row: Any) -> tuple[Told, dict[str, Any]]:
        """Whose it is, and the form in which it is held."""
        return self.world.ledger.told[row["uid"]], row["row"]

    def _dates(self, rows: dict[str, Any]) -> None:
        """I12, and durations inside one boot are exact. A collector's clock counts as the truth, so that what
        it is off by comes on top.
        """
        apart_ms = max(abs(one.clock_error_ms) for one in self.world.collectors)
        spoke: dict[str, dict[int, int]] = defaultdict(dict)
        for row in self.world.hub.all_of(tables.boot_offset):
            spoke[row["boot"]][row["hour"]] = row["offset_ms"]
        edge_rows = [row for row in rows.values() if not row["minted"]]
        around: dict[str, float] = defaultdict(float)
        for row in edge_rows:
            if row["fault"] == wire.NOT_RUNNING:
                told, form = self._told(row)
                slow = (_slow_ms(told, form[name], spoke) for name in ("first_bad", "cleared"))
                around[row["gateway_id"]] = max(around[row["gateway_id"]], *slow)
        lies = self._lies(edge_rows, spoke, around)
        for row in edge_rows:
            told, form = self._told(row)
            if told.place(form) is None:
                self.world.fail(
                    f"I6: {row['uid']} is held in a form that no edge wrote: {form}, {told.forms}"
                )
                return
            stamps = [("start_ms", form["first_bad"]), ("raised_ms", form["raised"])]
            if form["state"] == "closed":
                stamps.append(("end_ms", form["cleared"]))
            if any(s["boot"] not in spoke for _, s in stamps):
                self.world.count("dates of boots that never spoke")
            if any(_followed(row[name], stamp, lies) for name, stamp in stamps if stamp["boot"] not in spoke):
                self.world.count("dates that no one can know")
                continue
            slow_ms = max(
                _slow_ms(told, stamp, spoke) if stamp["boot"] in spoke else around[row["gateway_id"]]
                for _, stamp in stamps
            )
            if slow_ms:
                self.world.count("dates by a message that was over a second on its way")
            for name, stamp in stamps:
                off_ms = row[name] - told.box.truth_ms(stamp)
                if abs(off_ms) > row["error_ms"] + slow_ms + apart_ms + ROUNDING_MS:
                    self.world.fail(
                        f"I12: {name} of {row['uid']} is off by {off_ms:.0f} ms, stated {row['error_ms']}; "
                        f"stamp {stamp}, spoke: {stamp['boot'] in spoke}"
                    )
            if form["state"] == "closed" and form["cleared"]["boot"] == form["first_bad"]["boot"]:
                exact = form["cleared"]["mono_ns"] // 1_000_000 - form["first_bad"]["mono_ns"] // 1_000_000
                if row["end_ms"] - row["start_ms"] != exact:
                    self.world.fail(f"promise 7: {row['uid']} lasted {exact} ms, held is another time")

    def _lies(
        self, rows: Sequence[Any], spoke: dict[str, dict[int, int]], slow_ms: dict[str, float]
    ) -> dict[str, set[tuple[float, int]]]:
        """By boot that never spoke: (offset, error) that a wall clock claimed, that was not so, and that no
        neighbour which spoke contradicts.
        """
        low: dict[str, float] = defaultdict(lambda: -math.inf)
        high: dict[str, float] = defaultdict(lambda: math.inf)
        for row in rows:
            told, form = self._told(row)
            before, after = form["first_bad"], form.get("cleared")
            if row["fault"] != wire.NOT_RUNNING or before["boot"] == after["boot"]:
                continue
            if before["boot"] in spoke:
                bound = told.box.truth_ms(before) - after["mono_ns"] / 1e6
                low[after["boot"]] = max(low[after["boot"]], bound)
            if after["boot"] in spoke:
                bound = told.box.truth_ms(after) - before["mono_ns"] / 1e6
                high[before["boot"]] = min(high[before["boot"]], bound)
        found: dict[str, set[tuple[float, int]]] = defaultdict(set)
        for row in rows:
            told, form = self._told(row)
            for stamp in (form["first_bad"], form.get("cleared")):
                allowed_ms = WALL_ERROR_MS.get(stamp["source"]) if stamp else None
                if allowed_ms is None or abs(stamp["wall_ms"] - told.box.truth_ms(stamp)) <= allowed_ms:
                    continue
                boot, offset_ms = stamp["boot"], stamp["wall_ms"] - stamp["mono_ns"] / 1e6
                near_ms = allowed_ms + CONTRADICTED_MS + slow_ms[row["gateway_id"]]
                if low[boot] - near_ms <= offset_ms <= high[boot] + near_ms:
                    found[boot].add((offset_ms, allowed_ms))
        return found

    def _groups(self, rows: dict[str, Any]) -> None:
        """Promise 3: a ticket is a run of occurrences with gaps of at most the reopen window."""
        in_hand = keys_in_hand(self.world)
        rows = {uid: row for uid, row in rows.items() if row["dedupe_key"] not in in_hand}
        by_key: dict[str, list[Any]] = defaultdict(list)
        for row in rows.values():
            by_key[row["dedupe_key"]].append(row)
        expected: set[frozenset[str]] = set()
        for found in by_key.values():
            run: list[str] = []
            reach_ms = 0
            for row in sorted(found, key=lambda one: (one["start_ms"], one["uid"])):
                if run and row["start_ms"] > reach_ms + REOPEN_WINDOW_MS:
                    expected.add(frozenset(run))
                    run = []
                run.append(row["uid"])
                reach_ms = max(reach_ms, (1 << 62) if row["end_ms"] is None else row["end_ms"])
            expected.add(frozenset(run))
        held: dict[str, set[str]] = defaultdict(set)
        for row in rows.values():
            held[row["ticket_id"]].add(row["uid"])
        got = {frozenset(uids) for uids in held.values()}
        if got != expected:
            self.world.fail(f"promise 3: tickets hold {got - expected}, should {expected - got}")


def keys_in_hand(world: World) -> set[str]:
    """Where people were at work, which joins faults to one ticket."""
    return {
        row["dedupe_key"]
        for row in world.hub.all_of(tables.ticket)
        if row["worked_until_ms"] is not None or row["work"] in ("in_progress", "on_hold")
    }


def _pauses(row: dict[str, Any]) -> bool:
    """Whether its fault is not there, though it is open."""
    return wire.Row.model_validate(row).is_paused


def _followed(at_ms: int, stamp: dict[str, Any], lies: dict[str, set[tuple[float, int]]]) -> bool:
    """Whether this date of a boot that never spoke is where a wall clock claimed it to be that lied: nothing
    contradicted it. What those before and after it contradict is no excuse.
    """
    offset_ms = at_ms - stamp["mono_ns"] / 1e6
    drift_ms = DRIFT_MS_PER_HOUR * (stamp["mono_ns"] // 3_600_000_000_000 + 24)
    return any(abs(offset_ms - lie) <= error_ms + drift_ms for lie, error_ms in lies[stamp["boot"]])


def _slow_ms(told: Told, stamp: dict[str, Any], spoke: dict[str, dict[int, int]]) -> float:
    """How much longer than the second that is stated the message took by which this stamp is dated. Nobody
    can know it who has only one-way messages; but a quicker message of another hour has to be preferred.
    """
    hours = spoke.get(stamp["boot"])
    if not hours:
        return 0.0
    wanted = stamp["mono_ns"] // 3_600_000_000_000
    best = min(hours, key=lambda hour: (hours[hour] + 360 * abs(hour - wanted), abs(hour - wanted)))
    return max(0.0, _way_ms(told.box, stamp["boot"], best, hours[best]) - 1000)


def _what_it_says(row: dict[str, Any]) -> tuple[object, ...]:
    """What tells one form of a row from another; histories that parted may have two of one revision."""
    ended = row.get("cleared")
    return row["rev"], row["state"], row["severity"], ended and ended["mono_ns"]


def _way_ms(box: Box, boot: str, hour: int, offset_ms: int) -> float:
    """How long the quickest message of an hour of a boot took."""
    middle_s = hour * 3_600 + 1_800
    sent_ms = box.truth_ms({"boot": boot, "mono_ns": middle_s * 1_000_000_000})
    return offset_ms - (sent_ms - middle_s * 1000)

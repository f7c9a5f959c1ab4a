"""What must hold: at every commit of the collector, after every answer, in the end (docs/reliability.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulation import net, oracle
from simulation.floor import FAULTS
from simulation.hub import SITE, Held
from simulation.ledger import Told

from collector import ingest
from collector.exchange import GatewayIdentity
from collector.store import tables
from edge_agent import wire

if TYPE_CHECKING:
    from simulation.box import Box
    from simulation.world import World

REOPEN_WINDOW_MS = 600_000
HORIZON_MS = 30 * 86_400_000
# Stamps are cut to milliseconds.
ROUNDING_MS = 2

_TWO_OPEN_TICKETS = """
    SELECT dedupe_key FROM ticket WHERE closed_ms IS NULL GROUP BY dedupe_key HAVING count(*) > 1"""
_WRONG_LINKS = """
    SELECT t.id, t.condition, t.closed_ms, count(o.uid) FROM ticket t
    LEFT JOIN occurrence o ON o.ticket_id = t.id AND o.open
    GROUP BY t.id
    HAVING (count(o.uid) > 0) != (t.condition != 'cleared')
        OR (t.closed_ms IS NOT NULL AND count(o.uid) > 0)"""


@dataclass(slots=True)
class Laws:
    world: World
    # As of the last commit of this incarnation of the collector.
    held: dict[str, Held] = field(default_factory=dict)
    positions: dict[str, tuple[int, str]] = field(default_factory=dict)
    # dedupe key -> since when (in seconds of the world) the oldest fault has been there that is open here.
    open_since: dict[str, float] = field(default_factory=dict)
    # stream -> the highest position that was ever durable.
    highest: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    # --- at every step ----------------------------------------------------------------------------------

    def restored(self) -> None:
        """Another incarnation: what it forgot is no break of a law."""
        hub = self.world.hub
        self.held, self.positions = hub.occurrences(), hub.positions()
        self.open_since = self._open_since(self.held)

    def after_commit(self) -> None:
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
        held, positions = hub.occurrences(), hub.positions()
        self._monotone(held, positions)
        for uid, one in held.items():
            if uid not in self.held:
                self._made_by_its_owner(one)
        open_since = self._open_since(held)
        for key, since in self.open_since.items():
            if key not in open_since:
                self._rightly_closed(key, since)
        self.held, self.positions, self.open_since = held, positions, open_since

    def _monotone(self, held: dict[str, Held], positions: dict[str, tuple[int, str]]) -> None:
        for uid, was in self.held.items():
            now = held.get(uid)
            if now is None or now.rev < was.rev or (now.open and not was.open):
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
        unwatched = [at for (_, name), at in world.unwatched_at.items() if name == device]
        if any(at >= since for at in unwatched):
            return
        world.fail(f"I7: {key} is called ended though it was there all the time since {since:.3f}")

    def after_answer(
        self, gateway: GatewayIdentity, message: wire.SyncRequest, applied: ingest.Applied
    ) -> None:
        world, answer = self.world, applied.answer
        durable = world.hub.positions().get(answer.stream, wire.ORIGIN)
        if tuple(answer.hwm) != tuple(durable):
            world.fail(f"I4: answered {answer.hwm}, durable is {durable}")
        if applied.quarantined and answer.verdict == "ok" and tuple(answer.hwm) != tuple(message.to):
            world.fail("I13: a row that cannot be read holds up its stream")
        if message.lane == "present":
            world.count(f"presents ahead of history, {answer.verdict}")
        else:
            world.count("rows taken in" if message.rows else "heartbeats")

    def after_exchange(self, box: Box) -> None:
        stream, cursor, _ = box.disk.cursor()
        if cursor > self.highest[stream]:
            self.world.fail(
                f"I4: {box.gateway.name} believes that {cursor} is held, it never was more than "
                f"{self.highest[stream]}"
            )

    # --- in the end -------------------------------------------------------------------------------------

    def settled(self) -> bool:
        return all(cursor == head for _, cursor, head in (box.disk.cursor() for box in self.world.boxes))

    def in_the_end(self) -> None:
        hub = self.world.hub
        held = hub.occurrences()
        rows = {row["uid"]: row for row in hub.all_of(tables.occurrence)}
        for box in self.world.boxes:
            self._nothing_lost(box, held)
            self._agree(box, held)
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

    def _nothing_lost(self, box: Box, held: dict[str, Held]) -> None:
        there = {row["uid"] for row in box.disk.rows()}
        for row in box.disk.committed.values():
            here = held.get(row["uid"])
            if here is None and row["uid"] not in there and self._past_the_horizon(box, row):
                self.world.count("rows past the horizon")
            elif self._spoilt(row):
                found = self.world.hub.database.raw.execute(
                    "SELECT 1 FROM quarantine WHERE gateway_id = ? AND raw LIKE ?",
                    (box.gateway.id, f"%{row['uid']}%"),
                ).fetchone()
                if found is None:
                    self.world.fail(f"I1: {row['uid']} is neither held nor in quarantine")
            elif here is None:
                self.world.fail(f"I1: {row['uid']} ({row['device']} {row['fault']}) is lost")
            elif row["state"] == "closed" and (here.open or here.estimated):
                self.world.fail(f"I1b: {row['uid']} has ended at the edge, here it is {here}")
            elif here.rev < row["rev"]:
                self.world.fail(f"I1: {row['uid']} is held as {here}, the edge has rev {row['rev']}")

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
                f"I3: {box.gateway.name}: open at the edge only: {sorted(readable - here)}, "
                f"here only: {sorted(stray)}"
            )
        twice = [k for k, n in Counter((held[u].dedupe_key) for u in here & at_edge.keys()).items() if n > 1]
        if twice:
            self.world.fail(f"I2: {box.gateway.name}: two open occurrences of {twice}")
        said = {f"{row['device']} {row['fault']}" for row in at_edge.values()}
        true = {f"{n} {fault}" for n in box.belts for fault in self.world.belts[n].faults}
        if said != true:
            self.world.fail(f"I3: {box.gateway.name} says {sorted(said)}, true is {sorted(true)}")
        if unknown := [uid for uid in here & at_edge.keys() if held[uid].unknown]:
            self.world.fail(f"I3: still unknown though its gateway speaks: {unknown}")

    def _may_be_about(self, key: str, unreadable: list[dict[str, Any]]) -> bool:
        """Whether a row that cannot be read may tell that this goes on though its own disk is gone."""
        return any(
            key == wire.dedupe_key(SITE, row["device"], row["component"], row["fault"])
            or self.world.ledger.spoilt[row["uid"], row["rev"]] == net.NAMELESS
            for row in unreadable
        )

    def _tickets_say_what_is(self, held: dict[str, Held]) -> None:
        tickets = self.world.hub.all_of(tables.ticket)
        on = sorted(t["dedupe_key"] for t in tickets if t["condition"] == "active")
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
        if set(on) - set(true) or set(true) - set(on) - hidden or len(on) != len(set(on)):
            self.world.fail(f"I3: tickets say {on}, true is {true}, told unreadably {sorted(hidden)}")
        if any(t["condition"] == "unknown" and t["dedupe_key"] not in hidden for t in tickets):
            self.world.fail("I3: a ticket is unknown though all gateways speak")

    def _told(self, row: Any) -> tuple[Told, dict[str, Any]]:
        """Whose it is, and the form in which it is held."""
        return self.world.ledger.told[row["uid"]], row["row"]

    def _dates(self, rows: dict[str, Any]) -> None:
        """I12, and durations inside one boot are exact."""
        spoke: dict[str, dict[int, int]] = defaultdict(dict)
        for row in self.world.hub.all_of(tables.boot_offset):
            spoke[row["boot"]][row["hour"]] = row["offset_ms"]
        for row in rows.values():
            if row["minted"]:
                continue
            told, form = self._told(row)
            plain = {k: v for k, v in form.items() if k != "mod_seq"}
            if plain not in told.forms:
                self.world.fail(f"I6: {row['uid']} is held in a form that no edge wrote: {plain}")
                return
            stamps = [("start_ms", form["first_bad"]), ("raised_ms", form["raised"])]
            if form["state"] == "closed":
                stamps.append(("end_ms", form["cleared"]))
            if any(s["boot"] in told.box.liars and s["boot"] not in spoke for _, s in stamps):
                self.world.count("dates that no one can know")
                continue
            slow_ms = max(_slow_ms(told, stamp, spoke) for _, stamp in stamps)
            if slow_ms:
                self.world.count("dates by a message that was over a second on its way")
            for name, stamp in stamps:
                off_ms = row[name] - told.box.truth_ms(stamp)
                if abs(off_ms) > row["error_ms"] + slow_ms + ROUNDING_MS:
                    self.world.fail(
                        f"I12: {name} of {row['uid']} is off by {off_ms:.0f} ms, stated {row['error_ms']}; "
                        f"stamp {stamp}, spoke: {stamp['boot'] in spoke}"
                    )
            if form["state"] == "closed" and form["cleared"]["boot"] == form["first_bad"]["boot"]:
                exact = form["cleared"]["mono_ns"] // 1_000_000 - form["first_bad"]["mono_ns"] // 1_000_000
                if row["end_ms"] - row["start_ms"] != exact:
                    self.world.fail(f"promise 7: {row['uid']} lasted {exact} ms, held is another time")

    def _groups(self, rows: dict[str, Any]) -> None:
        """Promise 3: a ticket is a run of occurrences with gaps of at most the reopen window."""
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


def _slow_ms(told: Told, stamp: dict[str, Any], spoke: dict[str, dict[int, int]]) -> float:
    """How much longer than the second that is stated the message took by which this stamp is dated. Nobody
    can know it who has only one-way messages; but a quicker message of another hour has to be preferred.
    """
    hours = spoke.get(stamp["boot"])
    if not hours:
        return 0.0
    wanted = stamp["mono_ns"] // 3_600_000_000_000
    best = min(hours, key=lambda hour: (hours[hour] + 360 * abs(hour - wanted), abs(hour - wanted)))
    sent_ms = told.box.truth_ms({"boot": stamp["boot"], "mono_ns": (best * 3_600 + 1_800) * 1_000_000_000})
    way_ms = hours[best] - (sent_ms - (best * 3_600 + 1_800) * 1000)
    return max(0.0, way_ms - 1000)

"""The real code with one rule removed, in this process. Every one of them has to break a law."""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from edge_agent import detect, ledger
from edge_agent.detect import Act, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    name: str
    # The rule that it removes, as in docs/wire.md, or E for the edge's own.
    rule: str
    apply: Callable[[], Callable[[], None]]


def edited(where: str, old: str, new: str) -> Callable[[], Callable[[], None]]:
    """``where`` is ``module:function`` or ``module:Class.function``, ``old`` a part of its source."""

    def apply() -> Callable[[], None]:
        module_name, _, path = where.partition(":")
        module = importlib.import_module(module_name)
        owner: Any = module
        *owners, name = path.split(".")
        for part in owners:
            owner = getattr(owner, part)
        found = inspect.getattr_static(owner, name)
        function: FunctionType = getattr(found, "__func__", found)
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(old) != 1:
            raise LookupError(
                f"{where}: {old!r} is there {source.count(old)} times; the mutant is out of date"
            )
        code = compile(
            source.replace(old, new),
            f"<mutant of {where}>",
            "exec",
            flags=__future__.annotations.compiler_flag,
            dont_inherit=True,
        )
        space: dict[str, Any] = {}
        exec(code, dict(module.__dict__), space)
        mutated = space[name]
        # Its code alone is changed, so that everybody who has imported the function runs the mutant.
        before = function.__code__
        function.__code__ = getattr(mutated, "__func__", mutated).__code__

        def undo() -> None:
            function.__code__ = before

        return undo

    return apply


def unknown_is_clear() -> Callable[[], None]:
    keys = [(State.ACTIVE, None, False), (State.CLEARING, None, False), (State.CLEARING, None, True)]
    before = {key: detect.TRANSITIONS[key] for key in keys}
    for key in keys:
        detect.TRANSITIONS[key] = (State.NORMAL, Act.CLEAR)

    def undo() -> None:
        detect.TRANSITIONS.update(before)

    return undo


def prunes_what_was_not_sent() -> Callable[[], None]:
    before = ledger._CLOSED_AND_SENT
    ledger._CLOSED_AND_SENT = before.replace("AND mod_seq <= (SELECT cursor_seq FROM stream)", "")
    assert before != ledger._CLOSED_AND_SENT

    def undo() -> None:
        ledger._CLOSED_AND_SENT = before

    return undo


def _of(name: str, rule: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name=name, rule=rule, apply=edited(where, old, new))


LEDGER, WATCH, FORWARD = (
    "edge_agent.ledger:Ledger.",
    "edge_agent.watch:Watch.",
    "edge_agent.forward:Forwarder.",
)
MERGE, INGEST, STREAMS = "collector.merge:", "collector.ingest:", "collector.store.streams:"
ROWS, PRESENCE = "collector.rows:", "collector.presence:"
FOLDING = "collector.folding:"
ECONOMY = "edge_agent.journal_caps:Economy."

MUTANTS = [
    # --- the edge
    _of(
        "deletes what was acknowledged", "E5", LEDGER + "_move",
        'self._sql.execute("UPDATE stream SET cursor_seq = ?, cursor_nonce = ?", hwm)',
        'self._sql.execute("UPDATE stream SET cursor_seq = ?, cursor_nonce = ?", hwm); '
        'self._sql.execute("DELETE FROM occurrence WHERE open = 0 AND mod_seq <= ?", (hwm[0],))',
    ),
    _of("never rewinds", "E4", LEDGER + "_move", "if hwm == cursor:", "if hwm[0] <= cursor[0]:"),
    _of(
        "a fork keeps its stream", "E4", LEDGER + "new_stream",
        "stream = self._new_id()", "stream = self._stream()[0]",
    ),
    _of(
        "does not recognise a foreign position", "E4", LEDGER + "_move",
        "foreign = hwm[0] > 0 and not self._made_here(hwm)", "foreign = False",
    ),
    _of(
        "goes back to a foreign position", "E4", LEDGER + "_move",
        "foreign = hwm[0] > 0 and", "foreign = hwm[0] > cursor[0] and",
    ),
    _of(
        "does not heed superseded", "C7", LEDGER + "_move",
        " or answer.verdict == Verdict.SUPERSEDED", "",
    ),
    _of(
        "boundaries are not remembered", "E3", LEDGER + "_boundary",
        'self._sql.execute("INSERT INTO boundary (seq, nonce, crc) VALUES (?, ?, ?)", made)', "pass",
    ),
    _of("does not send again what is wanted", "E9", LEDGER + "take_answer", "in answer.want:", "in ():"),
    _of("closed here is not heeded", "E7", FORWARD + "_take", "if answer.closed_here:", "if False:"),
    _of(
        "what was closed here counts as seen well", "E7", WATCH + "_close_here",
        "watched.detector.forget(rule.key, ask_again=not polled)",
        "watched.detector.phases[rule.key] = type(watched.detector.phases[rule.key])(settled=True)",
    ),
    _of(
        "a restart forgets what is open", "E1", WATCH + "start",
        "rows = await journal.open_occurrences()", "rows = []",
    ),
    _of(
        "what is no longer configured stays open", "E8", WATCH + "start",
        "row.key not in configured", "False",
    ),
    _of(
        "nothing is ever unsettled", "E8", "edge_agent.detect:Detector.unsettled",
        "if not phase.settled", "if False",
    ),
    Mutant(name="unknown is clear", rule="E8", apply=unknown_is_clear),
    Mutant(name="prunes what was not sent", rule="E5", apply=prunes_what_was_not_sent),
    _of(
        "what is decided counts as known before it is written", "E8", WATCH + "unsettled",
        "for key, phase in watched.unwritten.items()", "for key, phase in ()",
    ),
    _of(
        "a start does not tell for how long nothing ran", "E10", "edge_agent.journal:Journal.start",
        "if anchor is not None:", "if False:",
    ),
    # --- journals that are full
    _of("the file has no limit", "E6", ECONOMY + "_limit", "{max(pages, 1) + spare}", "{1 << 30}"),
    _of(
        "what is dropped is not told", "E6", ECONOMY + "_drop",
        "self.lose(mod_seq, count)", "pass",
    ),
    _of(
        "what was lost is told in one stream alone", "E6", "edge_agent.losses:after",
        "WHERE through > ?", "WHERE through > ? AND stream = (SELECT id FROM stream)",
    ),
    _of(
        "what was lost is counted in every stream", "C8", "collector.gaps:_by_loss",
        "counted.get(loss.id, (-1, 0))", "(-1, 0)",
    ),
    _of(
        "what is dropped is not counted", "E6", ECONOMY + "_drop",
        "self.count(Given.OCCURRENCES_DROPPED, count)", "self.count(Given.OCCURRENCES_DROPPED, 0)",
    ),
    _of(
        "a roll-up forgets one of its members", "E6", "edge_agent.rollup:rolled_up",
        "for row in rows for member in _members(row)]", "for row in rows[1:] for member in _members(row)]",
    ),
    _of(
        "a roll-up counts as one occurrence", "E6", "collector.rows:_readable",
        "for one in unpacked(row):", "for one in (row,):",
    ),
    _of(
        "a gap is not written down", "C8", INGEST + "_advance",
        "gaps.declare(exchange, before)", "pass",
    ),
    # --- positions at the collector
    _of(
        "any gateway may speak in any stream", "C1", INGEST + "_judge",
        "if held is not None and held.gateway_id != gateway.id:", "if False:",
    ),
    _of("behind is applied", "C2", MERGE + "judge", "return Verdict.BEHIND", "return Verdict.OK"),
    _of("old is applied", "C2", MERGE + "judge", "return Verdict.OLD", "return Verdict.OK"),
    _of("the lineage is not checked", "C2", MERGE + "judge", "return Verdict.FORK", "return Verdict.OK"),
    _of(
        "the position is answered, not stored", "C2", STREAMS + "advance",
        '("hwm_seq", "hwm_nonce")', '("id",)',
    ),
    _of(
        "a new stream does not supersede", "C7", STREAMS + "begin_stream",
        "stream.c.live).values(live=False)", "stream.c.live).values(live=True)",
    ),
    _of(
        "a new stream is believed at its first word", "C7", INGEST + "_judge",
        "(held is None or held.doubted) and streams.is_heard", "False and streams.is_heard",
    ),
    _of(
        "a superseded stream opens occurrences", "C7", ROWS + "_wanted",
        "believed = exchange.verdict is Verdict.OK", "believed = True",
    ),
    # --- rows and the present
    _of("closed does not absorb", "C3", MERGE + "rank", "not is_open, not estimated", "True, True"),
    _of("revisions do not count", "C3", MERGE + "rank", "not estimated, rev,", "not estimated, 0,"),
    _of("an estimate counts as told", "C3", MERGE + "rank", "not estimated, rev", "True, rev"),
    _of(
        "a row that cannot be read blocks its stream", "C5", ROWS + "_readable",
        "exchange.bad.append((raw, str(error)))", "raise",
    ),
    _of(
        "absence closes nothing", "C6", MERGE + "reconcile",
        "return Reconciliation(missing=missing)", "return Reconciliation()",
    ),
    _of(
        "absence closes what is unsettled", "C6", MERGE + "reconcile",
        "{*head.unsettled, *unreadable.values()}", "{*unreadable.values()}",
    ),
    _of(
        "absence closes what an unreadable row may be about", "C6", MERGE + "reconcile",
        "{*head.unsettled, *unreadable.values()}", "{*head.unsettled}",
    ),
    _of(
        "absence closes in spite of a conflict", "C6", MERGE + "reconcile",
        "if closed_here or want or None in unreadable.values():\n"
        "        return Reconciliation(want=want, closed_here=closed_here)",
        "if closed_here or want or None in unreadable.values():\n"
        "        return Reconciliation(want=want, closed_here=closed_here, missing=tuple(sorted("
        "uid for uid, key in held_open.items() if uid not in named and key not in head.unsettled)))",
    ),
    _of(
        "conflicts are not told", "C6", MERGE + "reconcile",
        "closed_here = tuple(uid for uid in head.open if uid in held_closed)", "closed_here = ()",
    ),
    _of(
        "nothing is wanted", "E9", MERGE + "reconcile",
        "return Reconciliation(want=want, closed_here=closed_here)",
        "return Reconciliation(closed_here=closed_here)",
    ),
    _of(
        "what a garbled row may have been about is not asked for", "C6", PRESENCE + "present",
        "in_question=exchange.in_question,", "",
    ),
    _of(
        "what a garbled row may have been about is asked for once", "C6", "collector.in_question:look",
        "asked = before\n", "asked = []\n",
    ),
    # --- the present ahead of the history
    _of(
        "the present moves the position", "C10", INGEST + "_judge",
        'message.model_copy(update={"to": message.from_})',
        'message.model_copy(update={"to": (message.head.seq, message.from_[1])})',
    ),
    _of(
        "absence in the present closes", "C10", PRESENCE + "present",
        "if exchange.message.lane is Lane.PRESENT:", "if False:",
    ),
    _of(
        "a head that is older than what was told ahead closes", "C10", "collector.exchange:Exchange.at_head",
        "in_order and self.hwm[0] >= self.told_ahead", "in_order",
    ),
    _of(
        "what was told ahead by a disk that is gone is not asked for", "C10", LEDGER + "_move",
        "rolled_back = (answer.ahead or 0) > self._head_seq()", "rolled_back = False",
    ),
    _of(
        "fields of a later version are dropped", "versions", "collector.rows:_pending",
        '"row": raw,', '"row": {name: value for name, value in raw.items() if name in Row.model_fields},',
    ),
    # --- people and pages
    _of(
        "a command that comes again is carried out again", "P10", "collector.command:carry_out",
        "if earlier is not None:", "if False:",
    ),
    _of(
        "an acknowledgement covers what nobody has seen", "P10", "collector.tickets:_seen_by",
        "covers = ticket.version if seen is None else min(seen, ticket.version)", "covers = ticket.version",
    ),
    _of(
        "an acknowledgement that says no version covers what came after it was given", "P10",
        "collector.tickets:_acknowledge", "seen = command.given_ms if seen is None else seen", "pass",
    ),
    _of(
        "versions begin again where a backup stands", "P10", "collector.tickets:_next_version",
        "max(ticket.version + 1, now_ms)", "ticket.version + 1",
    ),
    _of(
        "an acknowledgement is dated when it arrives", "P10", "collector.tickets:_acknowledge",
        "at_ms = min(max(command.given_ms, ticket.received_ms), now_ms)", "pass",
    ),
    _of(
        "what was commanded is not in the audit log", "P9", "collector.command:carry_out",
        "audit.write(", "(lambda *_, **__: None)(",
    ),
    _of(
        "no page hears that tickets have moved", "pages", INGEST + "_fold", "(*moved, *folded)", "folded",
    ),
    _of(
        "no page hears of what the clock has done", "pages", "collector.sweep:sweep",
        "return tuple(dict.fromkeys(changed))", "return ()",
    ),
    # --- what a collector finds out by itself
    _of(
        "two boxes with one disk are not told of", "C7", INGEST + "_apply_together",
        "if exchange.begins or exchange.verdict is Verdict.SUPERSEDED:", "if False:",
    ),
    _of(
        "nobody is told of a clock that is wrong", "clock", "collector.skew:judge",
        "abs(skew_ms) <= allowed_ms", "True",
    ),
    _of(
        "a clock is wrong as soon as it looks so", "clock", "collector.skew:judge",
        "now_ms - since_ms >= SETTLES_MS", "True",
    ),
    _of(
        "a late message calls a clock right again", "clock", "collector.skew:look",
        "sent_ms < seen_ms", "False",
    ),
    # --- tickets, silence, dates
    _of(
        "a collector that has just begun calls everybody silent", "silence", "collector.sweep:sweep",
        "if started_ms < before_ms:", "if True:",
    ),
    _of(
        "nobody is ever called silent", "silence", "collector.sweep:sweep",
        "if started_ms < before_ms:", "if False:",
    ),
    _of(
        "an older ticket stays open beside a newer one", "C4", FOLDING + "_decide",
        "work.take(ticket, tickets.recurred(ticket, now_ms=now_ms), now_ms)", "pass",
    ),
    _of(
        "what was reopened gets a new ticket when its fault returns late", "I14", "collector.tickets:_reopen",
        ", worked_until_ms=FOREVER_MS", "",
    ),
    _of(
        "what was reopened resolves by itself", "I14", "collector.tickets:_settled",
        "if ticket.is_reopened:", "if False:",
    ),
    _of(
        "what was resolved while it was reported never asks again", "I15", "collector.sweep:_by_time",
        "for one in overridden", "for one in ()",
    ),
    _of(
        "late news joins no tickets", "C4", FOLDING + "_neighbours",
        "or _touches(grouping.span(ticket), spans, window_ms)", "or False",
    ),
    _of(
        "what a silent gateway told stays unknown", "C6", PRESENCE + "_settle",
        "for uid in known_again:", "for uid in ():",
    ),
    _of(
        "what is unknown counts as known until the next silence", "P6", "collector.sweep:_silent",
        'if not values["unknown"]:', "if True:",
    ),
    _of("a silence never ends", "C6", PRESENCE + "contact", "if state.silent_ms is not None:", "if False:"),
    _of(
        "dates never move", "time", INGEST + "_apply_together",
        "if exchange.gateway.id in learnt:", "if False:",
    ),
    _of(
        "a late message dates its hour", "time", "collector.dating:_best",
        "if found is not None and found[0] <= least_ms + drift_ms:", "if found is not None:",
    ),
    _of(
        "drift is not part of the error", "time", "collector.dating:_told",
        "DRIFT_MS_PER_HOUR * (abs(best - wanted) + 1)", "0",
    ),
    _of(
        "a boot that never spoke is as early as it can be", "time", "collector.dating:_between",
        "offset_ms=(low_ms + high_ms) // 2", "offset_ms=low_ms",
    ),
    _of(
        "a wall clock is believed against the boots around it", "time", "collector.dating:_between",
        "if low <= high:", "low, high = offset_ms - error_ms, offset_ms + error_ms\n        if low <= high:",
    ),
    _of(
        "what was dated before its boot lay between others stays so", "time", "collector.rows:take",
        "        if fresh:", "        if False:",
    ),
    _of(
        "what is left for later is never dated", "time", "collector.redating:_now_or_later",
        "dates_due.put(work.connection, work.gateway.id, stretch)", "pass",
    ),
    _of(
        "what becomes known while a stretch is dated counts for its rest alone", "time",
        "collector.store.dates_due:put",
        "told.from_ms < dates_due.c.from_ms", "told.from_ms > told.to_ms",
    ),
    _of(
        "what was learnt while the clock here was behind is the least for ever", "time",
        "collector.redating:put_right", "if right:", "if False:",
    ),
    _of(
        "an end that is put at its beginning states its own error alone", "time", "collector.dating:dates",
        "error + max(0, start_ms - at_ms)", "error",
    ),
    _of(
        "durations are differences of wall clocks", "time", "collector.dating:dates",
        "lasted_ms = max(0, mono_ms(stamp) - mono_ms(first))",
        "lasted_ms = max(0, stamp.wall_ms - first.wall_ms)",
    ),
    _of(
        "evidence is taken from anybody", "C1", "collector.evidence:_outcome",
        "part.uid not in owners or owners[part.uid].gateway_id != gateway_id", "part.uid not in owners",
    ),
    _of(
        "what is explained stays so when its cause has ended", "causes", "collector.folding:_as_explained",
        "episode.because in causes", "True",
    ),
    _of(
        "what is held does not hear of its cause", "causes", "collector.folding:_explained",
        "if values[\"uid\"] not in changing", "if False",
    ),
]  # fmt: skip

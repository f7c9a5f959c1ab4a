"""Technicians and a lead with handhelds on a flaky network: they look, and later they command, perhaps
offline.

A command goes on its way again and again under one idempotency key until an answer comes.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.hub import SITE
from simulation.virtual import Killed
from sqlalchemy import insert

from collector import command, tickets
from collector.store import DATABASE_AWAY, tables
from collector.tickets import Actor, Role

if TYPE_CHECKING:
    from simulation.world import World

TRIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was on the screen, and when that was asked for."""

    # None: whoever commands does not say.
    version: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    actor: Actor
    ticket_id: str
    command: tickets.Command
    key: str
    look: Look


@dataclass(slots=True, kw_only=True)
class Person:
    actor: Actor
    seen: dict[str, Look] = field(default_factory=dict)


class People:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(f"people of {world.seed}")
        self.persons = [
            Person(actor=Actor(name=name, role=role, sites=frozenset({SITE})))
            for name, role in (("alice", Role.TECHNICIAN), ("bob", Role.TECHNICIAN), ("lea", Role.LEAD))
        ]
        self._on_their_way: set[asyncio.Task[None]] = set()

    def enrol(self) -> None:
        rows = [
            {
                "name": one.actor.name,
                "role": one.actor.role.value,
                "sites": [SITE],
                "password_hash": "",
                "created_ms": 0,
                "disabled": False,
            }
            for one in self.persons
        ]
        self.world.hub.database.write(lambda c: c.execute(insert(tables.user), rows))

    async def work(self) -> None:
        world = self.world
        while True:
            await world.pause(self.rng.expovariate(1 / (3 * world.dials.poll_s)))
            person = self.rng.choice(self.persons)
            if self.rng.random() < 0.5 or not person.seen:
                self._look(person)
            else:
                wanted = self._wanted(person)
                task = asyncio.ensure_future(self._insist(wanted))
                self._on_their_way.add(task)
                task.add_done_callback(self._on_their_way.discard)

    def _look(self, person: Person) -> None:
        found = self.world.hub.database.raw.execute(
            "SELECT id, version FROM ticket ORDER BY number DESC LIMIT 8"
        )
        person.seen |= {ticket_id: Look(version=version, at=self.world.now) for ticket_id, version in found}

    def _wanted(self, person: Person) -> Wanted:
        ticket_id = self.rng.choice(list(person.seen))
        given_ms = self.world.now_ms
        made: list[tickets.Command] = [
            tickets.Acknowledge(given_ms=given_ms),
            tickets.Acknowledge(given_ms=given_ms),
            tickets.Note(text=f"looked at {given_ms}"),
            tickets.Start(),
            tickets.Resolve(note="mended", override=person.actor.role is Role.LEAD),
            tickets.Assign(assignee="bob"),
            tickets.Reopen(note="not mended"),
        ]
        return Wanted(
            actor=person.actor,
            ticket_id=ticket_id,
            command=self.rng.choice(made),
            key=f"{self.rng.getrandbits(128):032x}",
            look=person.seen[ticket_id],
        )

    async def _insist(self, wanted: Wanted) -> None:
        """At first perhaps offline; then until there is an answer, or the handheld lies in a drawer."""
        for _ in range(TRIES):
            await asyncio.sleep(self.rng.choice([0.1, 0.1, 5.0, 60.0, 600.0]) * self.rng.random())
            if self.world.failure is not None:
                return
            if self.rng.random() < 0.3:
                continue
            answered = self._arrives(wanted)
            if self.rng.random() < 0.2:
                self._arrives(wanted)
            if answered and self.rng.random() < 0.7:
                return

    def _arrives(self, wanted: Wanted) -> bool:
        """Whether it was carried out; the answer may be lost all the same."""
        world, hub = self.world, self.world.hub
        collector = world.net.collector()
        if collector is None:
            return False
        if not world.quiet and self.rng.random() < world.dials.hub_kills:
            hub.database.fuse = self.rng.randrange(20)
        before = world.laws.before_command(wanted)
        now_ms = world.now_ms + collector.clock_error_ms
        try:
            outcome = hub.database.write(
                lambda c: command.carry_out(
                    c,
                    wanted.actor,
                    wanted.ticket_id,
                    wanted.command,
                    idempotency_key=wanted.key,
                    if_match=wanted.look.version,
                    now_ms=now_ms,
                )
            )
        except Killed:
            world.net.dies(collector, "within a command")
            return False
        except DATABASE_AWAY:
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            world.fail("the collector crashed on a command", error)
            return False
        finally:
            if world.dials.hub_kills:
                hub.database.fuse = -1
        told = (
            outcome.result in (command.Result.APPLIED, command.Result.MERGED) and outcome.ticket is not None
        )
        world.laws.after_commit({wanted.ticket_id} if told else set())
        world.laws.after_command(wanted, before, outcome, now_ms)
        world.count("commands")
        return True

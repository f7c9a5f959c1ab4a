"""Hears what the collectors on one PostgreSQL tell each other (LISTEN), and says when something may have been
missed.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import structlog

from collector.store.news import CHANNEL

log = structlog.get_logger()

# How long stopping may take.
LOOK_EVERY_S = 0.5
# A connection that says nothing is asked so often whether it still is one.
ASK_EVERY = 10
FIRST_PAUSE_S = 0.1
MOST_PAUSE_S = 5.0


class Listener:
    """Owns one connection and one thread, from which ``hear`` and ``missed`` are called; they must not
    raise.
    """

    def __init__(
        self, connect: Callable[[], Any], hear: Callable[[str], None], missed: Callable[[], None]
    ) -> None:
        self._connect = connect
        self._hear = hear
        self._missed = missed
        self._over = Event()
        self._away = False
        self._pause_s = FIRST_PAUSE_S
        self._thread = Thread(target=self._run, name="store-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with self._connect() as connection:
                    self._listen(connection)
            except Exception as error:  # noqa: BLE001  whatever it was, it is tried again, and said once
                if not self._away:
                    log.warning("changes of other collectors are not heard", error=str(error).strip())
                self._away = True
            self._over.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)

    def _listen(self, connection: Any) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        if self._away:
            log.info("changes of other collectors are heard again")
            self._away = False
        self._pause_s = FIRST_PAUSE_S
        # Whatever was told while nobody listened.
        self._missed()
        while not self._over.is_set():
            for _ in range(ASK_EVERY):
                for told in connection.notifies(timeout=LOOK_EVERY_S):
                    self._hear(told.payload)
                if self._over.is_set():
                    return
            connection.execute("SELECT 1")

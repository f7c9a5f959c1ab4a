"""The collector's own SQLite database under load; says what it has answered to gateways.

Usage: python collector_writer.py FOLDER SAID SEED EXCHANGES WAY HOW_IT_ENDS, as the journal's writer.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from powercut.writer import EVIDENCE_BYTES, spoil
from rigs.edge_voice import EdgeVoice, enrol

from collector.store import Store

DATABASE = "collector.sqlite3"
GATEWAYS = 4
DEVICES = 3


def live(store: Store, name: str, exchanges: int, say: Callable[..., None]) -> None:
    """One gateway: raises, clears, syncs."""
    voice, dice = EdgeVoice(gateway=enrol(store, name), seed=hash(name)), random.Random(name)
    for minute in range(exchanges):
        for _ in range(dice.choice((1, 1, 2, 6))):
            device = f"{name}-{dice.randrange(DEVICES)}"
            is_open = [
                uid for uid, row in voice.rows.items() if (row["device"], row["state"]) == (device, "open")
            ]
            if is_open:
                voice.clears(is_open[0], minute)
            else:
                evidence = {"text": "x" * dice.choice(EVIDENCE_BYTES)}
                voice.raises(minute, device, "jam", component="belt", evidence=evidence)
        sent = voice.message(minute)
        answer = voice.sync(store, minute).answer
        for row in sent.rows:
            assert isinstance(row, dict)
            if row["mod_seq"] <= answer.hwm[0]:
                say("row", row["uid"], row["rev"], row["state"])
        say("hwm", answer.stream, *answer.hwm)


def main(arguments: Sequence[str]) -> None:
    folder, said, seed, exchanges, way, ending = arguments
    spoil(way)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(*words: object) -> None:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())

    store = Store.open(f"sqlite:///{Path(folder) / DATABASE}")
    with ThreadPoolExecutor(GATEWAYS) as threads:
        names = [f"gw-{seed}-{number}" for number in range(GATEWAYS)]
        list(threads.map(lambda name: live(store, name, int(exchanges) // GATEWAYS, say), names))
    if ending == "killed":
        os._exit(0)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1:])

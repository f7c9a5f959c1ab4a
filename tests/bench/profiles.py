"""Profiles of Modbus devices that are made for a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PROFILE = """
schema: 1
name: {name}
title: {name}
maker: none
models: [none]
evidence: simulated
source: tests/bench/{source}
transports: [modbus]
"""


def text(name: str, file: str, **parts: Sequence[str]) -> str:
    """The YAML: ``parts`` are its sections, each with its lines; ``file`` is the benchmark's."""
    sections = ("\n".join((f"{part}:", *lines)) for part, lines in parts.items())
    return PROFILE.format(name=name, source=Path(file).name) + "\n".join(sections) + "\n"

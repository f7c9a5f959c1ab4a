"""Plain YAML becomes plain values with their lines; whatever could mean two things is refused, with its line.

PyYAML reads YAML 1.1, where ``no`` is false, ``12:30:45`` is 45045, ``017`` is 15 and ``1e3`` is a text.
A person who writes those means something else, so they must be quoted or written out. Anchors, aliases, tags,
doubled keys, several documents, depth and size are refused before anything is built from them (342 bytes of
aliases can stand for gigabytes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import yaml

MAX_DEPTH = 20
MAX_BYTES = 64 << 10

Plain = None | bool | int | float | str | list["Plain"] | dict[str | int, "Plain"]
Path = tuple[str | int, ...]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[-+]?[0-9]{1,20}\.[0-9]{1,20}([eE][-+]?[0-9]{1,3})?")
# What YAML 1.1 reads as a text and a person as a number.
_LOOKS_LIKE_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+|0o[0-7]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_STR_TAG = "tag:yaml.org,2002:str"


class Place(NamedTuple):
    """Both count from 1, as editors do."""

    line: int
    column: int


START = Place(1, 1)


class PlainYamlError(ValueError):
    """The text says the line and what was expected."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(f"line {place.line}: {problem}")
        self.place = place
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    value: Plain
    # Where each value starts, by its path of keys and list positions.
    places: Mapping[Path, Place]


class _Loader(yaml.SafeLoader):
    """Refuses what could mean two things while it reads, before anything is made of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._documents = 0

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        # At each character PyYAML goes through all brackets of the last thousand that may yet become keys:
        # 86 ms for 4 KiB of them.
        if self.flow_level >= MAX_DEPTH:
            raise PlainYamlError(_place(self.get_mark()), f"nested deeper than {MAX_DEPTH}")
        super().fetch_flow_collection_start(token)

    def get_event(self) -> yaml.Event:
        step: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        place = START if step.start_mark is None else _place(step.start_mark)
        if isinstance(step, yaml.AliasEvent):
            raise PlainYamlError(place, f"alias *{step.anchor}: aliases are not allowed, write the value out")
        if isinstance(step, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise PlainYamlError(place, "a second document (---): one file is one profile")
        if isinstance(step, yaml.NodeEvent) and step.anchor is not None:
            raise PlainYamlError(place, f"anchor &{step.anchor}: anchors are not allowed")
        if isinstance(step, yaml.ScalarEvent | yaml.CollectionStartEvent) and step.tag is not None:
            raise PlainYamlError(place, f"tag {step.tag}: tags are not allowed")
        if isinstance(step, yaml.ScalarEvent) and _SURROGATE.search(step.value):
            raise PlainYamlError(place, "half of a surrogate pair (\\ud800) is no character")
        if isinstance(step, yaml.CollectionStartEvent):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise PlainYamlError(place, f"nested deeper than {MAX_DEPTH}")
        elif isinstance(step, yaml.CollectionEndEvent):
            self._depth -= 1
        return step


def load(text: str) -> Document:
    """Raises PlainYamlError."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PlainYamlError(START, f"more than {MAX_BYTES >> 10} KiB")
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PlainYamlError(
            _place(mark) if mark else START, f"not YAML: {error.problem or error.context}"
        ) from error
    except yaml.YAMLError as error:
        raise PlainYamlError(START, f"not YAML: {str(error).splitlines()[0]}") from error
    except PlainYamlError:
        raise
    except (ValueError, OverflowError) as error:
        # "\U00110000", or a %YAML of 5,000 digits: PyYAML lets the error of chr() and int() through.
        raise PlainYamlError(START, "not YAML: a number or an escape is too large") from error
    places: dict[Path, Place] = {}
    return Document(value=None if node is None else _value(node, (), places), places=places)


def _value(node: yaml.Node, path: Path, places: dict[Path, Place]) -> Plain:
    places[path] = _place(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, places)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*path, number), places) for number, child in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: Path, places: dict[Path, Place]) -> Plain:
    found: dict[str | int, Plain] = {}
    for key_node, child in node.value:
        place = _place(key_node.start_mark)
        key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise PlainYamlError(place, "a key must be a text (quote it) or a whole number")
        if key in found:
            raise PlainYamlError(place, f"key {key!r} stands twice in one mapping")
        found[key] = _value(child, (*path, key), places)
        # An error about the value is looked for at its key.
        places[(*path, key)] = place
    return found


def _scalar(node: yaml.Node) -> Plain:
    text = str(node.value)
    if isinstance(node, yaml.ScalarNode) and node.style is not None:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text) and isfinite(float(text)):
        return float(text)
    if node.tag != _STR_TAG or _LOOKS_LIKE_NUMBER.fullmatch(text):
        raise PlainYamlError(
            _place(node.start_mark),
            f"{text} means {_meaning(node.tag)} in YAML; quote it ('{text}') for the text, "
            "or write a boolean as true or false and a number in plain digits",
        )
    return text


def _place(mark: Any) -> Place:  # a mark of one of PyYAML's two parsers
    return Place(mark.line + 1, mark.column + 1)


def _meaning(tag: str) -> str:
    kind = tag.rpartition(":")[2]
    return {
        "bool": "a boolean",
        "int": "another number (octal, binary or base 60)",
        "float": "another number (base 60, infinite or not a number)",
        "timestamp": "a date",
        "str": "a text, not a number,",
    }.get(kind, "something special")

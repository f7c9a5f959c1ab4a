"""Profile text becomes a frozen ``Profile``, or an error that names line, key and what was expected.

The models are in ``grammar``, what none of them can see alone in ``profile_rules``. Here they are put
together: text to profile, the values that a device lays over it, the JSON Schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge_agent import grammar, plain_yaml, profile_rules
from edge_agent.grammar import (
    Answer,
    Bits,
    ByteSignal,
    CoilSignal,
    Condition,
    Each,
    Example,
    ExamplePayload,
    Given,
    In,
    IppRead,
    Is,
    JsonPath,
    JsonSignal,
    Learned,
    Limit,
    ListenRead,
    MetricSignal,
    ModbusRead,
    NoAnswer,
    NoData,
    Preset,
    Profile,
    Rate,
    Read,
    Redaction,
    RegisterSignal,
    RequestRead,
    Scalar,
    Share,
    Signal,
    SilenceSignal,
    Step,
    Stuck,
    TextSignal,
    TopicRead,
    When,
    steps,
    to_bytes,
)
from edge_agent.plain_yaml import START, Path, Place, Plain, PlainYamlError
from edge_agent.profile_rules import Problem, choices, shortened

# The grammar is read through this module.
__all__ = [
    "Answer",
    "Bits",
    "ByteSignal",
    "CoilSignal",
    "Condition",
    "Each",
    "Example",
    "ExamplePayload",
    "Finding",
    "Given",
    "In",
    "IppRead",
    "Is",
    "JsonPath",
    "JsonSignal",
    "Learned",
    "Limit",
    "ListenRead",
    "MetricSignal",
    "ModbusRead",
    "NoAnswer",
    "NoData",
    "Preset",
    "Profile",
    "ProfileError",
    "Rate",
    "Read",
    "Redaction",
    "RegisterSignal",
    "RequestRead",
    "Scalar",
    "Share",
    "Signal",
    "SilenceSignal",
    "Step",
    "Stuck",
    "TextSignal",
    "TopicRead",
    "When",
    "json_schema",
    "merged",
    "parse",
    "places",
    "steps",
    "to_bytes",
]

MAX_PROBLEMS_SHOWN = 10
# Where a device may lay its own values over the profile.
_SETTABLE = ("reads", "signals", "conditions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person must mend, and where; what a device sets has no place in the profile's text."""

    text: str
    place: Place | None = None

    def __str__(self) -> str:
        return f"line {self.place.line}: {self.text}" if self.place else self.text


class ProfileError(ValueError):
    """A person must mend the profile or the device's ``set``; one line per problem."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


def parse(
    text: str, *, name: str, preset: str | None = None, overlay: Mapping[str, object] | None = None
) -> Profile:
    """The profile in a file of that name; laid over it one of its presets, and a device's ``[device.set]``.

    Examples prove the text, not one device's settings: with either there are none. Raises ProfileError.
    """
    document, profile = _as_written(text, name)
    values = _values(profile, preset, overlay or {}, ())
    return _with_set(document, name, values, ("set",)) if values else profile


# A gateway has many devices of few kinds.
@lru_cache(maxsize=64)
def _as_written(text: str, name: str) -> tuple[plain_yaml.Document, Profile]:
    try:
        document = plain_yaml.load(text)
    except PlainYamlError as error:
        raise ProfileError(Finding(text=error.problem, place=error.place)) from error
    if not isinstance(document.value, dict):
        text = f"a mapping is expected with {', '.join(_keys(Profile))}"
        raise ProfileError(Finding(text=text, place=START))
    profile = _validated(document.value, document.places, {}, name)
    for key, preset in profile.presets.items():
        _with_set(document, name, preset.set, ("presets", key, "set"))
    for number, example in enumerate(profile.examples):
        _check_example(document, name, number, example, profile)
    return document, profile


def places(text: str) -> Mapping[Path, Place]:
    """Where the values of a profile that can be parsed stand in its text."""
    return plain_yaml.load(text).places


def json_schema() -> str:
    """``device_profiles/profile.schema.json``, for editors; ``parse`` is stricter."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Profile.model_json_schema()
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


# --- presets and a device's own values ----------------------------------------------------------------------


def _values(
    profile: Profile, preset: str | None, own: Mapping[str, object], at: Path
) -> Mapping[str, object]:
    """What is laid over the profile: a preset, and over that what is set."""
    if preset is None:
        return own
    if preset not in profile.presets:
        text = f"there is no preset {preset!r}; expected {choices(profile.presets)}"
        raise _error(Problem(path=(*at, "preset"), text=text), {}, {})
    return merged(profile.presets[preset].set, own)


def merged(under: Mapping[str, object], over: Mapping[str, object]) -> Mapping[str, object]:
    """Key by key, as ``_laid_over`` does: what is set ``over`` what is set."""
    both = {
        key: merged(one, other)
        for key, other in over.items()
        if isinstance(one := under.get(key), Mapping) and isinstance(other, Mapping)
    }
    return {**under, **over, **both}


def _with_set(document: plain_yaml.Document, name: str, overlay: Mapping[str, object], at: Path) -> Profile:
    assert isinstance(document.value, dict)
    raw = {key: value for key, value in document.value.items() if key != "examples"}
    said_at: dict[Path, Path] = {}
    for section, entries in overlay.items():
        if section not in _SETTABLE:
            raise _error(
                Problem(path=(*at, section), text=f"unknown key; expected {', '.join(_SETTABLE)}"), {}, {}
            )
        raw[section] = _section_with(raw[section], section, entries, (*at, section), said_at)
    return _validated(raw, document.places, said_at, name)


def _section_with(
    section: Plain, name: str, entries: object, at: Path, said_at: dict[Path, Path]
) -> dict[str | int, Plain] | list[Plain]:
    """``section`` with each named entry of ``entries`` laid over its own; unknown names are refused."""
    by_name: dict[str, tuple[str | int, Plain]] = {}
    if isinstance(section, dict):
        by_name = {str(key): (key, value) for key, value in section.items()}
    elif isinstance(section, list):
        for number, entry in enumerate(section):
            assert isinstance(entry, dict)
            by_name[f"{entry['component']}/{entry['fault']}"] = (number, entry)
    changed: dict[str | int, Plain] = {}
    for key, value in _table(entries, at).items():
        if key not in by_name:
            raise _error(Problem(path=(*at, key), text=f"unknown name; expected {choices(by_name)}"), {}, {})
        position, entry = by_name[key]
        fixed = {"component", "fault"} & set(_table(value, (*at, key)))
        if name == "conditions" and fixed:
            path = (*at, key, *sorted(fixed)[:1])
            raise _error(Problem(path=path, text="cannot be set: a ticket is told from others by it"), {}, {})
        changed[position] = _laid_over(entry, value, (name, position), (*at, key), said_at)
    if isinstance(section, dict):
        return section | changed
    assert isinstance(section, list)
    return [changed.get(number, entry) for number, entry in enumerate(section)]


def _laid_over(under: Plain, over: object, path: Path, at: Path, said_at: dict[Path, Path]) -> Plain:
    """Mappings are merged key by key; anything else takes the place of what was there."""
    if not isinstance(over, Mapping):
        said_at[path] = at
        return _plain(over, at)
    merged = dict(under) if isinstance(under, dict) else {}
    if not isinstance(under, dict):
        said_at[path] = at
    for key, value in _table(over, at).items():
        merged[key] = _laid_over(merged.get(key), value, (*path, key), (*at, key), said_at)
    return merged


def _table(value: object, at: Path) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _error(Problem(path=at, text="a table is expected"), {}, {})
    return {str(key): inner for key, inner in value.items()}


def _plain(value: object, at: Path) -> Plain:
    if isinstance(value, list | tuple):
        return [_plain(inner, (*at, number)) for number, inner in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, (*at, str(key))) for key, inner in value.items()}
    if isinstance(value, bool | int | float | str):
        return value
    raise _error(
        Problem(path=at, text=f"a text, number, boolean, list or table is expected, not {value!r}"), {}, {}
    )


def _check_example(
    document: plain_yaml.Document, name: str, number: int, example: Example, profile: Profile
) -> None:
    path: Path = ("examples", number)
    if values := _values(profile, example.preset, example.set, path):
        profile = _with_set(document, name, values, (*path, "set"))
    problems = list(profile_rules.example_problems(path, example, profile))
    if problems:
        raise _error(problems, document.places, {})


# --- validation ---------------------------------------------------------------------------------------------


def _validated(
    raw: Mapping[str | int, Plain], places: Mapping[Path, Place], said_at: Mapping[Path, Path], name: str
) -> Profile:
    try:
        # Through JSON, where pydantic's strict mode takes lists for tuples and else nothing for another.
        profile = Profile.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise _error(_explained(error, raw), places, said_at) from error
    problems = profile_rules.problems(profile)
    if profile.name != name:
        problems.insert(
            0, Problem(path=("name",), text=f"{profile.name!r} stands in a file named {name}.yaml")
        )
    if problems:
        raise _error(problems, places, said_at)
    return profile


def _error(
    problems: Problem | Sequence[Problem], places: Mapping[Path, Place], said_at: Mapping[Path, Path]
) -> ProfileError:
    if isinstance(problems, Problem):
        problems = [problems]
    shown = [_placed(problem, places, said_at) for problem in problems[:MAX_PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(Finding(text=f"and {len(problems) - len(shown)} more"))
    return ProfileError(*shown)


def _placed(problem: Problem, places: Mapping[Path, Place], said_at: Mapping[Path, Path]) -> Finding:
    prefixes = [problem.path[:length] for length in range(len(problem.path), 0, -1)]
    for prefix in prefixes:
        if prefix in said_at:
            where = _dotted((*said_at[prefix], *problem.path[len(prefix) :]))
            return Finding(text=f"{where}: {problem.text}")
    place = next((places[prefix] for prefix in prefixes if prefix in places), None)
    return Finding(text=f"{_dotted(problem.path)}: {problem.text}", place=place)


def _dotted(path: Path) -> str:
    parts = (
        f"[{part}]" if isinstance(part, int) else f'."{part}"' if "/" in part else f".{part}" for part in path
    )
    return "".join(parts).lstrip(".")


def _explained(error: ValidationError, raw: Mapping[str | int, Plain]) -> list[Problem]:
    """One problem a place, the innermost: what a union would have taken is said in one sentence."""
    by_path: dict[Path, list[ErrorDetails]] = {}
    for found in error.errors(include_url=False):
        by_path.setdefault(_path_in(raw, found), []).append(found)
    outer = {path[:length] for path in by_path for length in range(len(path))}
    return [
        Problem(path=path, text=_expected(founds)) for path, founds in by_path.items() if path not in outer
    ]


def _path_in(raw: Plain | Mapping[str | int, Plain], found: ErrorDetails) -> Path:
    """The place of an error without the names of models and unions that pydantic puts between."""
    path: list[str | int] = []
    here: Any = raw
    for part in found["loc"]:
        rows = dict(enumerate(here)) if isinstance(here, list) else here
        inside = rows if isinstance(rows, Mapping) else {}
        key = part if part in inside or not str(part).isdigit() else int(part)
        if key in inside:
            here = inside[key]
            path.append(key)
        if len(path) == 4 and path[0] == "examples":
            # Behind it lies a payload, which may have any of five shapes.
            return tuple(path)
    if found["type"] == "missing":
        path.append(found["loc"][-1])
    return tuple(path)


_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _expected(founds: Sequence[ErrorDetails]) -> str:
    first = founds[0]
    kinds = list(dict.fromkeys(_EXPECTED[found["type"]] for found in founds if found["type"] in _EXPECTED))
    if first["type"] == "missing":
        return "missing"
    if first["type"] == "extra_forbidden":
        return f"unknown key; expected one of {', '.join(_keys(_model_at(first['loc'])))}"
    if kinds:
        given = first["input"]
        quote = " (quote it)" if kinds == ["a text"] and isinstance(given, bool | int | float) else ""
        return f"{' or '.join(kinds)} is expected{quote}, not {shortened(given)}"
    text = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return (
        text
        if first["type"] in ("value_error", "read_kind", "signal_kind")
        else f"{text}, not {shortened(first['input'])}"
    )


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Profile
    for part in loc[:-1]:
        tagged = getattr(grammar, part, None) if isinstance(part, str) else None
        fields = {field.alias or key: field for key, field in model.model_fields.items()}
        inner = _models_in(fields[part].annotation) if isinstance(part, str) and part in fields else []
        if isinstance(tagged, type) and issubclass(tagged, BaseModel):
            model = tagged
        elif len(inner) == 1:
            model = inner[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or key for key, field in model.model_fields.items()]

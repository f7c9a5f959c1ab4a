"""IPP as bytes: one question that changes nothing, and what a printer's answer to it says.

RFC 8010 has the encoding (3.1: version, operation or status, request id, groups of attributes), RFC 8011
4.2.5 the operation Get-Printer-Attributes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence

from edge_agent.profile import Scalar

# Nothing larger is looked at; the attributes that we ask for take some hundred bytes.
MAX_ANSWER_BYTES = 64 << 10
CONTENT_TYPE = "application/ipp"
# Each request has a connection of its own, so there is no other answer to take for it.
REQUEST_ID = 1

_VERSION = (1, 1)
_GET_PRINTER_ATTRIBUTES = 0x000B
# RFC 8010, 3.5.1: delimiters.
_OPERATION, _END, _PRINTER, _LAST_DELIMITER = 0x01, 0x03, 0x04, 0x0F
# RFC 8010, 3.5.2: tags of values.
_INTEGER, _BOOLEAN, _ENUM = 0x21, 0x22, 0x23
_RANGE = 0x33
_BEGIN_COLLECTION, _TEXT_WITH_LANGUAGE, _NAME_WITH_LANGUAGE, _END_COLLECTION = 0x34, 0x35, 0x36, 0x37
_TEXTS = range(0x41, 0x4A)
_KEYWORD, _URI, _CHARSET, _LANGUAGE = 0x44, 0x45, 0x47, 0x48
# RFC 8011, appendix B: what a technician can do something about.
_STATUS = {
    0x0401: "forbidden",
    0x0402: "it wants to know who we are",
    0x0403: "not authorized",
    0x0406: "there is no printer of that path",
    0x0503: "not available now",
    0x0505: "it does not speak this version of IPP",
    0x0507: "busy",
}

# A value that stands for none: unknown, unsupported, or of a kind that we do not read.
Value = Scalar | None


class IppError(ValueError):
    """The bytes are no answer of IPP, or a refusal; the text says which."""


def question(uri: str, attributes: Sequence[str]) -> bytes:
    """Get-Printer-Attributes of the printer at ``uri`` (ipp://...)."""
    operation = (
        _attribute(_CHARSET, "attributes-charset", "utf-8")
        + _attribute(_LANGUAGE, "attributes-natural-language", "en")
        + _attribute(_URI, "printer-uri", uri)
        + b"".join(
            _attribute(_KEYWORD, "" if number else "requested-attributes", name)
            for number, name in enumerate(attributes)
        )
    )
    head = struct.pack(">BBHI", *_VERSION, _GET_PRINTER_ATTRIBUTES, REQUEST_ID)
    return head + bytes([_OPERATION]) + operation + bytes([_END])


def answered(answer: bytes, wanted: Collection[str]) -> dict[str, list[Value]]:
    """The printer's attributes that are wanted, each with all its values. Raises IppError."""
    if len(answer) > MAX_ANSWER_BYTES:
        raise IppError(f"an answer of more than {MAX_ANSWER_BYTES >> 10} KiB")
    if len(answer) < 8:
        raise IppError("no answer of IPP: too short")
    major, _, status, request_id = struct.unpack_from(">BBHI", answer)
    if major not in (1, 2) or request_id != REQUEST_ID:
        raise IppError("no answer of IPP to our question")
    # 0x0000 to 0x00ff are successful, perhaps with attributes that were ignored.
    if status > 0x00FF:
        raise IppError(f"the printer refuses: {_STATUS.get(status, 'IPP status')} (0x{status:04x})")
    found: dict[str, list[Value]] = {}
    for name, value in _printer_attributes(answer[8:]):
        if name in wanted:
            found.setdefault(name, []).append(value)
    return found


def _attribute(tag: int, name: str, value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">BH", tag, len(name)) + name.encode() + struct.pack(">H", len(raw)) + raw


def _printer_attributes(data: bytes) -> Iterator[tuple[str, Value]]:
    group, name, depth, at = 0, "", 0, 0
    while at < len(data):
        tag = data[at]
        at += 1
        if tag == _END:
            return
        if tag <= _LAST_DELIMITER:
            group, name, depth = tag, "", 0
            continue
        named, at = _part(data, at)
        raw, at = _part(data, at)
        if depth:
            depth += (tag == _BEGIN_COLLECTION) - (tag == _END_COLLECTION)
            continue
        if named:
            # Without a name it is one more value of the attribute before.
            name = named.decode("utf-8", "replace")
        depth += tag == _BEGIN_COLLECTION
        if group == _PRINTER:
            yield name, _value(tag, raw)
    raise IppError("the answer ends in the middle")


def _part(data: bytes, at: int) -> tuple[bytes, int]:
    """A length of two bytes and so many bytes, and where it ends."""
    if at + 2 > len(data):
        raise IppError("the answer ends in the middle")
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    if end > len(data):
        raise IppError("the answer ends in the middle")
    return data[at + 2 : end], end


def _value(tag: int, raw: bytes) -> Value:
    if tag in (_INTEGER, _ENUM):
        return int.from_bytes(raw, "big", signed=True) if len(raw) == 4 else None
    if tag == _BOOLEAN:
        return raw == b"\x01" if len(raw) == 1 else None
    if tag == _RANGE and len(raw) == 8:
        return "{}-{}".format(*struct.unpack(">ii", raw))
    if tag in (_TEXT_WITH_LANGUAGE, _NAME_WITH_LANGUAGE):
        # The language, then the text, each behind its length (RFC 8010, 3.9).
        return _part(raw, _part(raw, 0)[1])[0].decode("utf-8", "replace")
    return raw.decode("utf-8", "replace") if tag in _TEXTS else None

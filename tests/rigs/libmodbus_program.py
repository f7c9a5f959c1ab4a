"""A Modbus server and client of libmodbus, the C library; imports nothing of Andon and nothing of pymodbus.

    libmodbus_program.py serve tcp PORT | rtu PATH UNIT
    libmodbus_program.py read (tcp PORT | rtu PATH) UNIT FUNCTION ADDRESS COUNT

``serve`` prints "ready" and has 64 of each: coil n is set when n is divisible by 3, discrete input n by 5,
holding register n holds 1000 + n, input register n holds 7 n. ``read`` prints a JSON list, or
``{"refused": why}`` in the library's words.
"""

from __future__ import annotations

import ctypes
import json
import sys

EACH = 64
# MODBUS_TCP_MAX_ADU_LENGTH of modbus-tcp.h; that of RTU is shorter.
LONGEST = 260
BAUD = 115_200


class Mapping(ctypes.Structure):
    """modbus_mapping_t of modbus.h."""

    _fields_ = [
        ("nb_bits", ctypes.c_int),
        ("start_bits", ctypes.c_int),
        ("nb_input_bits", ctypes.c_int),
        ("start_input_bits", ctypes.c_int),
        ("nb_input_registers", ctypes.c_int),
        ("start_input_registers", ctypes.c_int),
        ("nb_registers", ctypes.c_int),
        ("start_registers", ctypes.c_int),
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    ]


library = ctypes.CDLL("libmodbus.so.5", use_errno=True)
library.modbus_new_tcp.restype = ctypes.c_void_p
library.modbus_new_rtu.restype = ctypes.c_void_p
library.modbus_mapping_new.restype = ctypes.POINTER(Mapping)
library.modbus_strerror.restype = ctypes.c_char_p
READS = {
    1: (library.modbus_read_bits, ctypes.c_uint8),
    2: (library.modbus_read_input_bits, ctypes.c_uint8),
    3: (library.modbus_read_registers, ctypes.c_uint16),
    4: (library.modbus_read_input_registers, ctypes.c_uint16),
}


def context(kind: str, place: str) -> ctypes.c_void_p:
    if kind == "tcp":
        return ctypes.c_void_p(library.modbus_new_tcp(b"127.0.0.1", int(place)))
    return ctypes.c_void_p(library.modbus_new_rtu(place.encode(), BAUD, ctypes.c_char(b"N"), 8, 1))


def check(result: int) -> int:
    if result < 0:
        raise SystemExit(library.modbus_strerror(ctypes.get_errno()).decode())
    return result


def serve(kind: str, place: str, unit: str = "1") -> None:
    server = context(kind, place)
    mapping = library.modbus_mapping_new(EACH, EACH, EACH, EACH)
    for n in range(EACH):
        mapping.contents.tab_bits[n] = n % 3 == 0
        mapping.contents.tab_input_bits[n] = n % 5 == 0
        mapping.contents.tab_registers[n] = 1000 + n
        mapping.contents.tab_input_registers[n] = 7 * n
    check(library.modbus_set_slave(server, int(unit)))
    if kind == "rtu":
        check(library.modbus_connect(server))
        print("ready", flush=True)
        while True:
            answer(server, mapping)
    listener = ctypes.c_int(check(library.modbus_tcp_listen(server, 1)))
    print("ready", flush=True)
    while True:
        check(library.modbus_tcp_accept(server, ctypes.byref(listener)))
        while answer(server, mapping):
            pass


def answer(server: ctypes.c_void_p, mapping: object) -> bool:
    """One request; False when the client is gone (RTU: when it was not understood)."""
    request = (ctypes.c_uint8 * LONGEST)()
    size = library.modbus_receive(server, request)
    if size > 0:
        library.modbus_reply(server, request, size, mapping)
    return size >= 0


def read(kind: str, place: str, unit: str, function: str, address: str, count: str) -> None:
    client = context(kind, place)
    check(library.modbus_set_slave(client, int(unit)))
    check(library.modbus_connect(client))
    library.modbus_set_response_timeout(client, 2, 0)
    ask, kind_of_value = READS[int(function)]
    values = (kind_of_value * int(count))()
    if ask(client, int(address), int(count), values) < 0:
        print(json.dumps({"refused": library.modbus_strerror(ctypes.get_errno()).decode()}))
    else:
        print(json.dumps(list(values)))


if __name__ == "__main__":
    {"serve": serve, "read": read}[sys.argv[1]](*sys.argv[2:])

"""A starting file for a new device: valid, commented, and full of places that say what has to be found out.

Nothing in it is taken from a device; what IPP and Sparkplug B lay down for all of them cites the standard.
What the manual has to tell is marked TODO, and ``placeholders`` names each that is left: a draft that works
is no profile yet.
"""

from __future__ import annotations

import re

from edge_agent.plain_yaml import Place
from edge_agent.profile import Finding

MARK = "TODO"
_PLACEHOLDER = re.compile(rf"\b{MARK}\b:?\s*(?P<what>[^\"]*)")

_HEAD = """\
# What is marked TODO has to come from the manual. `edge-agent profile check` names each that is left.
schema: 1
name: {name}
title: "TODO: one line for people, such as: Remote I/O of the emergency-stop chain"
maker: "TODO: who makes it"
models: ["TODO: the models that the manual is for"]
# simulated: nothing here was seen on the device or in its manual. manual: all of it stands there.
evidence: simulated
source: "TODO: manual, edition, and what has to be set at the device"
"""

_MODBUS = """\
transports: [modbus]

# One block of registers or bits each. function: 1 coils, 2 discrete inputs, 3 holding, 4 input registers.
# address is the one on the wire, which begins at 0: manuals that number 40001, 30001 or 10001 mean 0.
reads:
  status: {{function: 3, address: 0, count: 2, every_s: 1}}  # TODO: function, address and count of the block

# Where in the block a named value stands. register is an address on the wire, too.
signals:
  running: {{read: status, register: 0, bit: 0, source: "TODO: page"}}  # TODO: register and bit
  faulted: {{read: status, register: 0, bit: 1, source: "TODO: page"}}  # TODO: register and bit
  current: {{read: status, register: 1, scale: 0.1, source: "TODO: page"}}  # TODO: register, scale
"""
_MODBUS_EXAMPLES = """
# Registers as they would be read, by address; those that are not named are 0.
examples:
  - condition: device/faulted
    trips: {{status: {{0: 0x2}}}}  # TODO: as the manual says, or as it was read
    clears: {{status: {{0: 0x1}}}}
  - condition: motor/overload
    trips: {{status: {{0: 0x1, 1: 120}}}}  # TODO: as the manual says, or as it was read
    clears: {{status: {{0: 0x1, 1: 80}}}}
"""

_TEXT = """\
transports: [serial, tcp]
# How bytes become frames: line (ends in CR, LF or both), stx_etx (between 02h and 03h), byte, ssi.
framing: line  # TODO: what the manual says of the ends of messages

# A read with send asks; one with `listen: true` takes what the device says by itself.
# Only questions that the manual calls a query of the status: never anything that changes the device.
reads:
  status: {{send: 'STATUS?\\r\\n', frames: 1, every_s: 5, timeout_s: 2}}  # TODO: query, frames

# Where in a frame a named value stands: field counts from 0.
signals:
  running: {{read: status, split: ",", field: 0, type: bool, source: "TODO: page"}}  # TODO: field and type
  faulted: {{read: status, split: ",", field: 1, type: bool, source: "TODO: page"}}  # TODO: field and type
  current: {{read: status, split: ",", field: 2, type: float, source: "TODO: page"}}  # TODO: field and type
"""
_TEXT_EXAMPLES = """
# Answers as they would come, a list of frames.
examples:
  - condition: device/faulted
    trips: {{status: ["0,1,0.0"]}}  # TODO: as the manual says, or as it was read
    clears: {{status: ["1,0,4.0"]}}
  - condition: motor/overload
    trips: {{status: ["1,0,12.0"]}}  # TODO: as the manual says, or as it was read
    clears: {{status: ["1,0,8.0"]}}
"""

_MQTT = """\
transports: [mqtt]

# {{topic}} stands for the topic of each device in agent.toml. format: text or json.
reads:
  status: {{topic: "{{topic}}/status", format: json}}  # TODO: the topic and its format

# Where in the message a named value stands.
signals:
  running: {{read: status, path: running, type: bool, source: "TODO: page"}}  # TODO: path and type
  faulted: {{read: status, path: faulted, type: bool, source: "TODO: page"}}  # TODO: path and type
  current: {{read: status, path: motor.current, type: float, source: "TODO: page"}}  # TODO: path and type
"""
_MQTT_EXAMPLES = """
# Messages as they would come.
examples:
  - condition: device/faulted
    trips: {{status: '{{"running": false, "faulted": true, "motor": {{"current": 0}}}}'}}  # TODO: as it came
    clears: {{status: '{{"running": true, "faulted": false, "motor": {{"current": 4}}}}'}}
  - condition: motor/overload
    trips: {{status: '{{"running": true, "faulted": false, "motor": {{"current": 12}}}}'}}  # TODO
    clears: {{status: '{{"running": true, "faulted": false, "motor": {{"current": 8}}}}'}}
"""

_IPP = """\
transports: [ipp]

# The profile ipp-printer reads what every printer says; this one is for what yours says besides.
# Names of attributes: `ipptool -tv ipp://... get-printer-attributes.test` lists those of a printer.
reads:
  printer: {{attributes: [printer-state, printer-state-reasons, queued-job-count], every_s: 10}}  # TODO

# The answer has each attribute with the list of its values. `each` shows those that are among `values`.
signals:
  # 3 idle, 4 processing, 5 stopped.
  state: {{read: printer, path: printer-state.0, type: int, source: "RFC 8011, 5.4.11"}}
  jobs: {{read: printer, path: queued-job-count.0, type: int, source: "RFC 8011, 5.4.24"}}
  trouble:
    read: printer
    path: printer-state-reasons
    # Most words end in -error, -warning or -report.
    each: {{values: [some-part-error]}}  # TODO: the words that the printer says
    source: "TODO: page"
"""
_IPP_CONDITIONS = """\
  - fault: faulted
    component: device
    title: "TODO: one line on the ticket"
    severity: stop
    when: {{not: {{is: {{signal: trouble, value: ""}}}}}}
    # Bad for so long before it is raised, well for so long before it is cleared.
    on_delay_s: 10
    off_delay_s: 10
    advice: "TODO: what to look at first, then second; read on a phone at the machine"
  - fault: many
    component: jobs
    title: "TODO: one line on the ticket"
    severity: notice
    when: {{above: {{signal: jobs, limit: 50, deadband: 10}}}}  # TODO: the limit
    on_delay_s: 60
    off_delay_s: 60
    advice: "TODO: what to look at first, then second; read on a phone at the machine"
"""
_IPP_EXAMPLES = """
# Answers as they would come.
examples:
  - condition: device/faulted
    trips: {{printer: '{{"printer-state": [5], "printer-state-reasons": ["some-part-error"]}}'}}  # TODO
    clears: {{printer: '{{"printer-state": [3], "printer-state-reasons": ["none"]}}'}}
  - condition: jobs/many
    trips: {{printer: '{{"queued-job-count": [51]}}'}}  # TODO: as it came
    clears: {{printer: '{{"queued-job-count": [3]}}'}}
"""

_SPARKPLUG = """\
transports: [mqtt]

# {{topic}} stands for the topic of each device in agent.toml: group/node/device, or group/node.
reads:
  edge: {{topic: "{{topic}}", format: sparkplug}}

# metric is its name as the birth has it. Under path stands what is known of births and deaths; the profile
# sparkplug-b has more of that.
signals:
  node: {{read: edge, path: node, type: text, source: "Sparkplug 3.0.0, 4.1: NBIRTH, NDEATH"}}
  device: {{read: edge, path: device, type: text, source: "Sparkplug 3.0.0, 4.1: DBIRTH, DDEATH"}}
  faulted: {{read: edge, metric: Faulted, type: bool, source: "TODO: page"}}  # TODO: metric and type
  current: {{read: edge, metric: Motor/Current, type: float, source: "TODO: page"}}  # TODO: metric and type
"""
_SPARKPLUG_CONDITIONS = """\
  - fault: offline
    component: node
    title: Edge node has left the broker
    severity: degraded
    when: {{is: {{signal: node, value: offline}}}}
    on_delay_s: 30
    advice: "TODO: what to look at first, then second; read on a phone at the machine"
  - fault: offline
    component: device
    title: Device is gone, its node is there
    severity: degraded
    when:
      all:
        - is: {{signal: node, value: online}}
        - in: {{signal: device, values: [offline, unborn]}}
    on_delay_s: 30
    advice: "TODO: what to look at first, then second; read on a phone at the machine"
"""
_SPARKPLUG_EXAMPLES = """
# Messages as the agent makes them of what came.
examples:
  - condition: node/offline
    trips: {{edge: '{{"node": "offline", "device": "offline"}}'}}
    clears: {{edge: '{{"node": "online", "device": "unborn"}}'}}
  - condition: device/offline
    trips: {{edge: '{{"node": "online", "device": "offline"}}'}}
    clears: {{edge: '{{"node": "online", "device": "online"}}'}}
  - condition: device/faulted
    trips: {{edge: '{{"metrics": {{"Faulted": true}}, "bad": {{}}}}'}}  # TODO: as it came
    clears: {{edge: '{{"metrics": {{"Faulted": false}}, "bad": {{}}}}'}}
  - condition: motor/overload
    trips: {{edge: '{{"metrics": {{"Motor/Current": 12}}, "bad": {{}}}}'}}  # TODO: as it came
    clears: {{edge: '{{"metrics": {{"Motor/Current": 8}}, "bad": {{}}}}'}}
"""

_RULES = """
# Which values are a fault. component and fault tell tickets apart: choose them once.
# stop: work stops until a person acts. degraded: slower, or at risk. notice: can wait.
conditions:
"""
_CONDITIONS = """\
  - fault: faulted
    component: device
    title: "TODO: one line on the ticket"
    severity: stop
    when: {{is: {{signal: faulted, value: true}}}}
    # Bad for so long before it is raised, well for so long before it is cleared.
    on_delay_s: 2
    off_delay_s: 2
    advice: "TODO: what to look at first, then second; read on a phone at the machine"
  - fault: overload
    component: motor
    title: "TODO: one line on the ticket"
    severity: degraded
    when: {{above: {{signal: current, limit: 10, deadband: 1}}}}  # TODO: the limit
    on_delay_s: 5
    off_delay_s: 5
    advice: "TODO: what to look at first, then second; read on a phone at the machine"
"""

# Sparkplug is a form of messages over mqtt.
_BODIES = {
    "modbus": (_MODBUS, _CONDITIONS, _MODBUS_EXAMPLES),
    "serial": (_TEXT, _CONDITIONS, _TEXT_EXAMPLES),
    "tcp": (_TEXT, _CONDITIONS, _TEXT_EXAMPLES),
    "mqtt": (_MQTT, _CONDITIONS, _MQTT_EXAMPLES),
    "sparkplug": (_SPARKPLUG, _CONDITIONS + _SPARKPLUG_CONDITIONS, _SPARKPLUG_EXAMPLES),
    "ipp": (_IPP, _IPP_CONDITIONS, _IPP_EXAMPLES),
}
SPOKEN = tuple(_BODIES)


def draft(name: str, spoken: str) -> str:
    """The text of a profile of that name for one of ``SPOKEN``."""
    reads, conditions, examples = _BODIES[spoken]
    text = (_HEAD + reads + _RULES + conditions + examples).replace("{name}", name)
    return text.replace("{{", "{").replace("}}", "}")


def placeholders(text: str) -> tuple[Finding, ...]:
    """What is still to be filled in, wherever it stands: in values, and in comments behind numbers."""
    return tuple(
        Finding(
            text=f"still to be filled in: {found['what'].strip() or 'what is marked TODO'}",
            place=Place(number, found.start() + 1),
        )
        for number, line in enumerate(text.splitlines(), 1)
        if not line.startswith("# What is marked")
        for found in _PLACEHOLDER.finditer(line)
    )

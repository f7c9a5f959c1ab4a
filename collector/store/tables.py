"""The tables: what the collector holds, as facts. Times are UTC milliseconds; a null time has not happened.

Portable between SQLite and PostgreSQL. Documents are JSON in a text column, so that no character from a
device can be refused by a database (PostgreSQL knows no NUL in text, JSON escapes it).
"""

from __future__ import annotations

import json
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class Document(TypeDecorator[Any]):
    """A JSON value in a text column."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else document(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def document(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # It knows no integer beyond 64 bits; a field that nobody knows yet may be one.
        return json.dumps(value, separators=(",", ":"))


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite counts only a plain INTEGER primary key by itself.
Serial = BigInteger().with_variant(Integer(), "sqlite")
# A moment, so that none is given twice. SQLite knows one kind of integers.
Version = BigInteger().with_variant(Integer(), "sqlite")
Name = String(64)
Uid = String(32)
Key = String(300)

# --- who speaks ---------------------------------------------------------------------------------------------

gateway = Table(
    "gateway",
    metadata,
    Column("id", Name, primary_key=True),
    Column("site", Name, nullable=False),
    Column("name", Name, nullable=False),
    # The public half of the bearer token, `agw_<id>`, and the SHA-256 of its secret.
    Column("credential_id", String(64), unique=True),
    Column("secret_sha256", String(64)),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    # Kept to five seconds; last_contact of a gateway never heard of is null.
    Column("last_contact_ms", BigInteger),
    # The last time its newest row was here: nothing older than this is still under way.
    Column("caught_up_ms", BigInteger),
    # Since when it counts as silent; null while it speaks.
    Column("silent_ms", BigInteger),
    # Since when its wall clock is wrong, and whether there is a ticket of it.
    Column("clock_ms", BigInteger),
    Column("clock_told", Boolean, nullable=False, server_default=text("false")),
    # Since when two boxes speak as this gateway, when that was last seen, and [[live stream, ms], ...] of it.
    Column("cloned_ms", BigInteger),
    Column("switched_ms", BigInteger),
    Column("switches", Document),
    Column("inventory_hash", String(64)),
    # Uids to be told again: a row that could not be read may have been about one of them. Null: none.
    Column("in_question", Document),
    Column("health", Document),
    UniqueConstraint("site", "name"),
)

stream = Table(
    "stream",
    metadata,
    Column("id", Uid, primary_key=True),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False, index=True),
    Column("hwm_seq", BigInteger, nullable=False),
    Column("hwm_nonce", Uid, nullable=False),
    # The newest position of which an open row was told ahead of the history.
    Column("told_ahead", BigInteger, nullable=False, server_default="0"),
    # When it was believed, and the clock of the message with which it was; null while it is doubted.
    Column("begun_ms", BigInteger),
    Column("boot", Uid),
    Column("mono_ms", BigInteger),
    # The stream of this gateway that was first seen last; the others are superseded.
    Column("live", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

# How far the wall clock here is from one boot's monotonic clock: the least seen in each hour of that boot.
boot_offset = Table(
    "boot_offset",
    metadata,
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("boot", Uid, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("offset_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway_id", "boot", "hour"),
    Index("ix_boot_offset_least", "gateway_id", "boot", "offset_ms"),
)

# Where more became known of a boot's clock: this part of it is still to be dated anew, ms of its own clock.
dates_due = Table(
    "dates_due",
    metadata,
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("boot", Uid, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway_id", "boot", "hour"),
)

device = Table(
    "device",
    metadata,
    Column("site", Name, nullable=False),
    Column("id", Name, nullable=False),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False, index=True),
    Column("place", String(200), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("bus", String(64), nullable=False),
    Column("conditions", Document, nullable=False),
    # When this gateway first named it, and since when it no longer does.
    Column("first_ms", BigInteger, nullable=False),
    Column("gone_ms", BigInteger),
    PrimaryKeyConstraint("site", "id", "gateway_id"),
)

# Between which moments a gateway did not watch a device that it had watched before and did again.
absence = Table(
    "absence",
    metadata,
    Column("site", Name, nullable=False),
    Column("device", Name, nullable=False),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("site", "device", "gateway_id", "from_ms"),
)

# When people took a device out of service; at most one that goes on.
out_of_service = Table(
    "out_of_service",
    metadata,
    Column("id", Uid, primary_key=True),
    Column("site", Name, nullable=False),
    Column("device", Name, nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    # When it is to end by itself.
    Column("until_ms", BigInteger),
    Column("reason", Text, nullable=False),
    Column("by", String(64), nullable=False),
    Column("ended_ms", BigInteger),
    # Empty when its time was over.
    Column("ended_by", String(64), nullable=False),
    Index("ix_out_of_service_site_device_from_ms", "site", "device", "from_ms"),
)

# --- what happened ------------------------------------------------------------------------------------------

# Every key that ever had an occurrence. Its row is the lock under which tickets of that key are decided.
# SQLite needs none.
condition = Table(
    "condition",
    metadata,
    Column("dedupe_key", Key, primary_key=True),
    Column("site", Name, nullable=False),
)

site_number = Table(
    "site_number",
    metadata,
    Column("site", Name, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

# One row: since when, without a break, some collector has run, and when that was last known.
listening = Table(
    "listening",
    metadata,
    Column("since_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, primary_key=True, autoincrement=False),
)

ticket = Table(
    "ticket",
    metadata,
    # The uid of the occurrence that opened it.
    Column("id", Uid, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("site", Name, nullable=False),
    Column("dedupe_key", Key, nullable=False),
    Column("device", Name, nullable=False),
    Column("place", String(200), nullable=False),
    Column("component", Name, nullable=False),
    Column("fault", Name, nullable=False),
    Column("title", String(200), nullable=False),
    Column("advice", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("condition", String(16), nullable=False),
    Column("work", String(16), nullable=False),
    Column("version", Version, nullable=False),
    # The version at which it last called for attention; an acknowledgement covers what was seen up to
    # `ack_seen`.
    Column("alarm_version", Version, nullable=False),
    Column("ack_seen", Version, nullable=False),
    Column("acked_by", String(64)),
    Column("acked_ms", BigInteger),
    Column("assignee", String(64)),
    # Occurred-at of its first fault, of the end of its last (null while one is open), of its newest active
    # period.
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger),
    Column("period_ms", BigInteger, nullable=False),
    Column("error_ms", BigInteger, nullable=False),
    # Derived from its occurrences: how often the fault returned, how many raises it stands for.
    Column("returns", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("resolved_ms", BigInteger),
    Column("resolved_by", String(64)),
    # Until when people had it in hand (FOREVER_MS: it was reopened, and waits for them); a fault that returns
    # meanwhile is the same ticket.
    Column("worked_until_ms", BigInteger),
    Column("closed_ms", BigInteger),
    # It was over before it was heard of: nobody is called.
    Column("history", Boolean, nullable=False),
    Column("recurs_of", Uid),
    Column("merged_into", Uid),
    # The occurrence that explains it, or that it may be explained yet: it is hidden.
    Column("because", Uid),
    Column("waits", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("site", "number"),
    Index("ix_ticket_site_received_ms", "site", "received_ms", "id"),
    Index("ix_ticket_received_ms", "received_ms", "id"),
    Index("ix_ticket_site_device_received_ms", "site", "device", "received_ms", "id"),
)

# Who may go on after a pause: by when its last fault ended.
Index("ix_ticket_dedupe_key_last_ms", ticket.c.dedupe_key, ticket.c.last_ms)

occurrence = Table(
    "occurrence",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("ticket_id", Uid, ForeignKey("ticket.id"), nullable=False, index=True),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("site", Name, nullable=False),
    Column("dedupe_key", Key, nullable=False),
    Column("device", Name, nullable=False),
    Column("component", Name, nullable=False),
    Column("fault", Name, nullable=False),
    Column("rev", BigInteger, nullable=False),
    # Of the row as it was told; the last word between two rows of one rev (`merge.rank`).
    Column("digest", Uid, nullable=False),
    Column("open", Boolean, nullable=False),
    # Its gateway is silent, or has not re-read the condition since.
    Column("unknown", Boolean, nullable=False),
    # Since when, without a break.
    Column("unknown_ms", BigInteger),
    # Made here (a silent gateway), not by an edge.
    Column("minted", Boolean, nullable=False),
    # Closed here because the edge no longer names it; the end is the latest possible.
    Column("estimated", Boolean, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("severity", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("title", String(200), nullable=False),
    # Stamps as the gateway read them; the dates below are worked out from these and the boots' offsets.
    Column("first_boot", Uid, nullable=False),
    Column("first_mono_ms", BigInteger, nullable=False),
    Column("end_boot", Uid),
    Column("end_mono_ms", BigInteger),
    Column("start_ms", BigInteger, nullable=False),
    Column("raised_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger),
    Column("error_ms", BigInteger, nullable=False),
    # [[ms, severity], ...] from start_ms on, in order.
    Column("severities", Document, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    # The uid of what explains it; that it may be explained yet.
    Column("because", Uid),
    Column("waits", Boolean, nullable=False, server_default=text("false")),
    # The row as it came, unknown fields and evidence included.
    Column("row", Document, nullable=False),
    Index("ix_occurrence_first_boot", "gateway_id", "first_boot", "first_mono_ms"),
    Index("ix_occurrence_site_device_gateway_id_start_ms", "site", "device", "gateway_id", "start_ms"),
)

# An end that lies elsewhere than its beginning: few, and so is what finds them.
FAR_END = text("(end_boot <> first_boot OR end_mono_ms > first_mono_ms + 3600000)")
# What lasted so long touches windows that it began well before: few, and so is what finds them.
LONG_MS = 3_600_000
LONG = text(f"end_ms > start_ms + {LONG_MS}")

# What a gateway recorded around the raise of an occurrence: before it, and shortly after.
evidence = Table(
    "evidence",
    metadata,
    Column("uid", Uid, ForeignKey("occurrence.uid", ondelete="CASCADE"), nullable=False),
    Column("part", Name, nullable=False),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    # Of the body; 0 when it was given up, there or here.
    Column("bytes", Integer, nullable=False),
    # JSON, packed by zlib.
    Column("body", LargeBinary),
    PrimaryKeyConstraint("uid", "part"),
)

# Append-only: every change of a ticket, automatic or human, with its reason.
ticket_entry = Table(
    "ticket_entry",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("ticket_id", Uid, ForeignKey("ticket.id"), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("reason", String(32), nullable=False),
    # Who; empty for an automatic change.
    Column("actor", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("detail", Document),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False, index=True),
    Column("stream", Uid, nullable=False),
    # When it could be read.
    Column("uid", Uid),
    Column("received_ms", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    # JSON, as it was parsed; the beginning of it when it is monstrous.
    Column("raw", Text, nullable=False),
    UniqueConstraint("gateway_id", "digest"),
)

# Open rows of a superseded stream: kept, not believed.
orphan = Table(
    "orphan",
    metadata,
    Column("uid", Uid, nullable=False),
    Column("stream", Uid, nullable=False),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("raw", Document, nullable=False),
    PrimaryKeyConstraint("uid", "stream"),
)

# Rows that the edge had pruned before they were here: declared, never silent.
gap = Table(
    "gap",
    metadata,
    Column("stream", Uid, nullable=False),
    Column("from_seq", BigInteger, nullable=False),
    Column("to_seq", BigInteger, nullable=False),
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    # Occurrences that the edge counted when it gave them up; between when they were.
    Column("count", BigInteger, nullable=False, server_default="0"),
    Column("from_ms", BigInteger, nullable=False, server_default="0"),
    Column("to_ms", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("stream", "from_seq", "to_seq"),
)

# Losses that gaps tell of, or that turned out to be held: each is counted once, in whatever stream it comes.
loss = Table(
    "loss",
    metadata,
    Column("gateway_id", Name, ForeignKey("gateway.id"), nullable=False),
    Column("id", Uid, nullable=False),
    Column("through", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway_id", "id"),
)

# --- people -------------------------------------------------------------------------------------------------

command = Table(
    "command",
    metadata,
    Column("actor", String(64), nullable=False),
    Column("key", String(128), nullable=False),
    Column("ticket_id", Uid, nullable=False),
    # Of what was asked, so that one key is never used for two things.
    Column("digest", String(64), nullable=False),
    Column("outcome", Document, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("actor", "key"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(128), nullable=False),
    Column("site", Name, nullable=False),
    Column("detail", Document),
)

user = Table(
    "user",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("password_hash", Text, nullable=False),
    Column("role", String(16), nullable=False),
    # A list of site names; ["*"] is all.
    Column("sites", Document, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("user", String(64), ForeignKey("user.name"), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("sites", Document, nullable=False),
    Column("label", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

login_try = Table(
    "login_try",
    metadata,
    Column("id", Serial, primary_key=True),
    # None: any account.
    Column("account", String(64)),
    # "*": any network.
    Column("network", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("login_try_of", "network", "account"),
    Index("login_try_old", "at_ms"),
)

enrolment_token = Table(
    "enrolment_token",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("site", Name, nullable=False),
    Column("gateway", Name, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    # The secret that redeemed it: the same one again gets the same answer, another one is an alarm.
    Column("used_secret_hash", String(64)),
    Column("used_ms", BigInteger),
)

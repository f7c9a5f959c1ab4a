"""Stores one-off enrolment tokens and the credentials that gateways got for them.

A token is good for one secret: the same secret again gets the same answer, another one is refused and
alarming. When one is redeemed, or the gateway revoked, all others of that name are void. The decision is one
conditional update, so that of many at the same moment exactly one wins.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BigInteger, Connection, insert, literal, select, update

from collector.exchange import GatewayIdentity
from collector.store import tables
from collector.store.bulk import among


class Refusal(StrEnum):
    """Why a token was not taken."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    # Another secret has redeemed it: somebody copied the token, or the box.
    USED = "used"
    # It was redeemed with this secret, and the gateway has been enrolled anew since.
    REPLACED = "replaced"
    # The same, and the gateway is revoked.
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The answer to a gateway; ``credential_id`` is ``agw_<id>``."""

    site: str
    gateway: str
    credential_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """``site`` and ``gateway`` are known unless the token is not."""

    why: Refusal
    site: str = ""
    gateway: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Whether there was a gateway that could be revoked, and how many tokens were good for that name."""

    gateway: bool
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What is known of a gateway's secret."""

    gateway: GatewayIdentity
    secret_sha256: str
    revoked: bool


def add_token(
    connection: Connection,
    *,
    token_hash: str,
    site: str,
    gateway: str,
    created_by: str,
    now_ms: int,
    expires_ms: int,
) -> None:
    connection.execute(
        insert(tables.enrolment_token).values(
            hash=token_hash,
            site=site,
            gateway=gateway,
            created_by=created_by,
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
    )


def redeem(
    connection: Connection,
    *,
    token_hash: str,
    secret_sha256: str,
    new_gateway_id: str,
    new_credential_id: str,
    now_ms: int,
) -> Enrolled | Refused:
    """The new ids are used only when this is the first time (``new_gateway_id``: when the gateway is new
    as well)."""
    token = tables.enrolment_token
    won = connection.execute(
        update(token)
        .where(token.c.hash == token_hash, token.c.used_secret_hash.is_(None), token.c.expires_ms > now_ms)
        .values(used_secret_hash=secret_sha256, used_ms=now_ms)
    ).rowcount
    found = connection.execute(select(token).where(token.c.hash == token_hash)).one_or_none()
    if found is None:
        return Refused(why=Refusal.UNKNOWN)
    if won:
        _void(connection, found.site, found.gateway, now_ms)
        _give(connection, found.site, found.gateway, secret_sha256, new_gateway_id, new_credential_id, now_ms)
        return Enrolled(site=found.site, gateway=found.gateway, credential_id=new_credential_id)
    if found.used_secret_hash is None:
        return Refused(why=Refusal.EXPIRED, site=found.site, gateway=found.gateway)
    if found.used_secret_hash != secret_sha256:
        return Refused(why=Refusal.USED, site=found.site, gateway=found.gateway)
    held = connection.execute(
        select(tables.gateway.c.credential_id, tables.gateway.c.revoked_ms).where(
            tables.gateway.c.site == found.site,
            tables.gateway.c.name == found.gateway,
            tables.gateway.c.secret_sha256 == secret_sha256,
        )
    ).one_or_none()
    if held is None:
        return Refused(why=Refusal.REPLACED, site=found.site, gateway=found.gateway)
    if held.revoked_ms is not None:
        return Refused(why=Refusal.REVOKED, site=found.site, gateway=found.gateway)
    return Enrolled(site=found.site, gateway=found.gateway, credential_id=held.credential_id)


_CREDENTIALS = select(
    tables.gateway.c.credential_id,
    tables.gateway.c.id,
    tables.gateway.c.site,
    tables.gateway.c.name,
    tables.gateway.c.secret_sha256,
    tables.gateway.c.revoked_ms,
).where(among(tables.gateway.c.credential_id, "ids"), tables.gateway.c.secret_sha256.is_not(None))


def credentials(connection: Connection, credential_ids: Collection[str]) -> dict[str, Credential]:
    """By the public half of each, ``agw_<id>``."""
    return {
        row.credential_id: Credential(
            gateway=GatewayIdentity(id=row.id, site=row.site, name=row.name),
            secret_sha256=row.secret_sha256,
            revoked=row.revoked_ms is not None,
        )
        for row in connection.execute(_CREDENTIALS, {"ids": credential_ids}).all()
    }


def is_good(connection: Connection, gateway_id: str, credential_id: str) -> bool:
    """Whether it is the one that this gateway has."""
    found = connection.execute(
        select(tables.gateway.c.id).where(
            tables.gateway.c.id == gateway_id,
            tables.gateway.c.credential_id == credential_id,
            tables.gateway.c.revoked_ms.is_(None),
        )
    )
    return found.first() is not None


def revoke(connection: Connection, *, site: str, gateway: str, now_ms: int) -> Revoked:
    """And the tokens with which it could come back."""
    changed = connection.execute(
        update(tables.gateway)
        .where(
            tables.gateway.c.site == site,
            tables.gateway.c.name == gateway,
            tables.gateway.c.revoked_ms.is_(None),
        )
        .values(revoked_ms=now_ms)
    ).rowcount
    return Revoked(gateway=bool(changed), tokens=_void(connection, site, gateway, now_ms))


def _void(connection: Connection, site: str, gateway: str, now_ms: int) -> int:
    """How many of its tokens were still good: they end now."""
    token = tables.enrolment_token
    return connection.execute(
        update(token)
        .where(
            token.c.site == site,
            token.c.gateway == gateway,
            token.c.used_secret_hash.is_(None),
            token.c.expires_ms > now_ms,
        )
        .values(expires_ms=now_ms)
    ).rowcount


def _give(
    connection: Connection,
    site: str,
    name: str,
    secret_sha256: str,
    new_gateway_id: str,
    credential_id: str,
    now_ms: int,
) -> None:
    """A gateway that is known keeps its id and its history; the secret of the box that it was is void at
    once."""
    _end_revocation(connection, site, name, now_ms)
    values = {"credential_id": credential_id, "secret_sha256": secret_sha256, "revoked_ms": None}
    known = connection.execute(
        update(tables.gateway)
        .where(tables.gateway.c.site == site, tables.gateway.c.name == name)
        .values(**values)
    ).rowcount
    if not known:
        connection.execute(
            insert(tables.gateway).values(
                id=new_gateway_id, site=site, name=name, created_ms=now_ms, **values
            )
        )


def _end_revocation(connection: Connection, site: str, name: str, now_ms: int) -> None:
    """Its devices were watched by it until it was revoked, and are again."""
    device, gateway = tables.device, tables.gateway
    unheard = (
        select(
            device.c.site, device.c.id, device.c.gateway_id, gateway.c.revoked_ms, literal(now_ms, BigInteger)
        )
        .join(gateway, gateway.c.id == device.c.gateway_id)
        .where(
            gateway.c.site == site,
            gateway.c.name == name,
            gateway.c.revoked_ms < now_ms,
            device.c.gone_ms.is_(None),
        )
    )
    connection.execute(insert(tables.absence).from_select(tables.absence.c.keys(), unheard))

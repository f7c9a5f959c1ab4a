"""Orders of the command line: people, gateways and tokens, carried out in one transaction each and
audited.

The same order runs inside the server that holds the database (it comes by the local socket) or directly
in the command when no server runs; passwords and secrets arrive here only as hashes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from sqlalchemy import Connection

from collector.auth import PERSON_NAME
from collector.store import audit, enrolment, people
from collector.store import gateways as gateway_store
from collector.tickets import EVERY_SITE, Role
from edge_agent import wire

# In the audit: whoever may run commands as the collector's user on its machine.
OPERATOR = "command line"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PersonName = Annotated[str, Field(pattern=PERSON_NAME)]
Sites = Annotated[
    list[Annotated[str, Field(pattern=rf"^(\*|{wire.ID_PATTERN.strip('^$')})$")]], Field(min_length=1)
]

Answer = dict[str, object]


class OrderError(Exception):
    """Refused; the text says why."""


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AddPerson(_Order):
    do: Literal["add-person"] = "add-person"
    name: PersonName
    role: Role
    sites: Sites
    password_hash: Annotated[str, Field(pattern=r"^\$argon2id\$")]

    @field_validator("role")
    @classmethod
    def _role_is_a_persons(cls, given: Role) -> Role:
        if given is Role.READ:
            raise ValueError("read is for API tokens; a person is technician, lead, installer or admin")
        return given


class ListPeople(_Order):
    do: Literal["list-people"] = "list-people"


class AddGateway(_Order):
    """``token_hash`` is the SHA-256 of a one-off token that the command printed."""

    do: Literal["add-gateway"] = "add-gateway"
    site: wire.Id
    name: wire.Id
    token_hash: Sha256
    hours: Annotated[int, Field(ge=1, le=24)]


class RevokeGateway(_Order):
    do: Literal["revoke-gateway"] = "revoke-gateway"
    site: wire.Id
    name: wire.Id


class ListGateways(_Order):
    do: Literal["list-gateways"] = "list-gateways"


class AddToken(_Order):
    do: Literal["add-token"] = "add-token"
    id: Annotated[str, Field(pattern="^[a-z0-9]{8,40}$")]
    secret_sha256: Sha256
    role: Role
    sites: Sites
    # With "token " before it, it is the name of an actor.
    label: Annotated[str, Field(pattern=r"^[ -~]{1,58}$")]


AnyOrder = AddPerson | ListPeople | AddGateway | RevokeGateway | ListGateways | AddToken
Order = Annotated[AnyOrder, Field(discriminator="do")]
ORDER: TypeAdapter[AnyOrder] = TypeAdapter(Order)


def perform(connection: Connection, order: AnyOrder, now_ms: int) -> Answer:
    """Raises OrderError. The answer is plain JSON."""
    match order:
        case AddPerson():
            return _add_person(connection, order, now_ms)
        case ListPeople():
            return {"people": [_person(person) for person in people.people(connection)]}
        case AddGateway():
            return _add_gateway(connection, order, now_ms)
        case RevokeGateway():
            return _revoke_gateway(connection, order, now_ms)
        case ListGateways():
            return {"gateways": [_gateway(found) for found in gateway_store.gateways(connection, None)]}
        case AddToken():
            return _add_token(connection, order, now_ms)


def _add_person(connection: Connection, order: AddPerson, now_ms: int) -> Answer:
    new = people.add_person(
        connection,
        name=order.name,
        password_hash=order.password_hash,
        role=order.role,
        sites=order.sites,
        now_ms=now_ms,
    )
    detail: dict[str, object] = {"role": order.role.value, "sites": order.sites}
    _audit(
        connection, "user added" if new else "user changed", order.name, _site(order.sites), detail, now_ms
    )
    return {"new": new}


def _add_gateway(connection: Connection, order: AddGateway, now_ms: int) -> Answer:
    expires_ms = now_ms + order.hours * 3_600_000
    enrolment.add_token(
        connection,
        token_hash=order.token_hash,
        site=order.site,
        gateway=order.name,
        created_by=OPERATOR,
        now_ms=now_ms,
        expires_ms=expires_ms,
    )
    _audit(connection, "enrolment token made", order.name, order.site, {"expires_ms": expires_ms}, now_ms)
    return {"expires_ms": expires_ms}


def _revoke_gateway(connection: Connection, order: RevokeGateway, now_ms: int) -> Answer:
    if not enrolment.revoke(connection, site=order.site, gateway=order.name, now_ms=now_ms):
        raise OrderError(f"there is no gateway {order.site}/{order.name} that could be revoked")
    _audit(connection, "gateway revoked", order.name, order.site, None, now_ms)
    return {}


def _add_token(connection: Connection, order: AddToken, now_ms: int) -> Answer:
    people.add_api_token(
        connection,
        token_id=order.id,
        secret_sha256=order.secret_sha256,
        role=order.role,
        sites=order.sites,
        label=order.label,
        now_ms=now_ms,
    )
    detail: dict[str, object] = {"role": order.role.value, "sites": order.sites, "label": order.label}
    _audit(connection, "API token made", order.id, _site(order.sites), detail, now_ms)
    return {}


def _audit(
    connection: Connection,
    action: str,
    subject: str,
    site: str,
    detail: dict[str, object] | None,
    now_ms: int,
) -> None:
    audit.write(
        connection, at_ms=now_ms, actor=OPERATOR, action=action, subject=subject, site=site, detail=detail
    )


def _site(sites: list[str]) -> str:
    return sites[0] if len(sites) == 1 else EVERY_SITE


def _person(person: people.Person) -> Answer:
    return {
        "name": person.name,
        "role": person.role,
        "sites": list(person.sites),
        "disabled": person.disabled,
    }


def _gateway(found: gateway_store.GatewayView) -> Answer:
    return {
        "site": found.site,
        "name": found.name,
        "state": found.state,
        "devices": found.devices,
        "last_contact_ms": found.last_contact_ms,
    }

"""Orders of the command line: people, gateways and tokens, carried out in one transaction each and
audited.

The same order runs inside the server that holds the database (it comes by the local socket) or directly
in the command when no server runs; passwords and secrets arrive here only as hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from sqlalchemy import Connection

from collector.auth import PERSON_NAME
from collector.store import audit, enrolment, figures, people
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
# With "token " before it, it is the name of an actor.
Label = Annotated[str, Field(pattern=r"^[ -~]{1,58}$")]

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


class DisablePerson(_Order):
    do: Literal["disable-person"] = "disable-person"
    name: PersonName


class EnablePerson(_Order):
    do: Literal["enable-person"] = "enable-person"
    name: PersonName


class AddGateway(_Order):
    """``token_hash`` is the SHA-256 of a one-off token that the command printed."""

    do: Literal["add-gateway"] = "add-gateway"
    site: wire.Id
    name: wire.Id
    token_hash: Sha256


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
    label: Label


class ListTokens(_Order):
    do: Literal["list-tokens"] = "list-tokens"


class RevokeToken(_Order):
    """``name`` is an id or a label."""

    do: Literal["revoke-token"] = "revoke-token"
    name: Label


AnyOrder = (
    AddPerson
    | ListPeople
    | DisablePerson
    | EnablePerson
    | AddGateway
    | RevokeGateway
    | ListGateways
    | AddToken
    | ListTokens
    | RevokeToken
)
Order = Annotated[AnyOrder, Field(discriminator="do")]
ORDER: TypeAdapter[AnyOrder] = TypeAdapter(Order)


def perform(connection: Connection, order: AnyOrder, now_ms: int, *, enrolment_hours: int) -> Answer:
    """Raises OrderError. The answer is plain JSON."""
    match order:
        case AddPerson():
            return _add_person(connection, order, now_ms)
        case ListPeople():
            return {"people": [_person(person) for person in people.people(connection)]}
        case DisablePerson():
            return _let_in(connection, order.name, True, now_ms)
        case EnablePerson():
            return _let_in(connection, order.name, False, now_ms)
        case AddGateway():
            return _add_gateway(connection, order, now_ms, enrolment_hours)
        case RevokeGateway():
            return _revoke_gateway(connection, order, now_ms)
        case ListGateways():
            return {"gateways": [_gateway(found) for found in gateway_store.gateways(connection, None)]}
        case AddToken():
            return _add_token(connection, order, now_ms)
        case ListTokens():
            return {"tokens": [_token(token) for token in people.api_tokens(connection)]}
        case RevokeToken():
            return _revoke_token(connection, order, now_ms)


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
    known = people.person(connection, order.name)
    unheard = sorted({*order.sites} - {EVERY_SITE, *figures.sites(connection, None)})
    return {"new": new, "disabled": known is not None and known.disabled, "unheard": unheard}


def _let_in(connection: Connection, name: str, disabled: bool, now_ms: int) -> Answer:
    word = "disabled" if disabled else "enabled"
    known = people.person(connection, name)
    if known is None or known.disabled is disabled:
        raise OrderError(f"there is no user {name} that could be {word}")
    people.let_in(connection, name, disabled=disabled)
    _audit(connection, f"user {word}", name, _site(known.sites), None, now_ms)
    return {}


def _add_gateway(connection: Connection, order: AddGateway, now_ms: int, hours: int) -> Answer:
    expires_ms = now_ms + hours * 3_600_000
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
    revoked = enrolment.revoke(connection, site=order.site, gateway=order.name, now_ms=now_ms)
    if not revoked.gateway and not revoked.tokens:
        raise OrderError(f"there is no gateway {order.site}/{order.name} that could be revoked")
    detail: dict[str, object] = {"tokens": revoked.tokens}
    action = "gateway revoked" if revoked.gateway else "enrolment token revoked"
    _audit(connection, action, order.name, order.site, detail, now_ms)
    return {"gateway": revoked.gateway, "tokens": revoked.tokens}


def _add_token(connection: Connection, order: AddToken, now_ms: int) -> Answer:
    people.lock_labels(connection)
    if any(
        token.label == order.label and token.revoked_ms is None for token in people.api_tokens(connection)
    ):
        raise OrderError(
            f"there is a token {order.label!r}, and both would be the same actor: take another label"
        )
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


def _revoke_token(connection: Connection, order: RevokeToken, now_ms: int) -> Answer:
    """What has the same label is the same actor: databases from before hold several of one."""
    good = [token for token in people.api_tokens(connection) if token.revoked_ms is None]
    named = [token for token in good if token.id == order.name]
    named = named or [token for token in good if token.label == order.name]
    if not named:
        raise OrderError(f"there is no token {order.name!r} that could be revoked")
    for token in named:
        people.revoke_api_token(connection, token.id, now_ms)
        _audit(connection, "API token revoked", token.id, _site(token.sites), {"label": token.label}, now_ms)
    return {"tokens": [_token(token) for token in named]}


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


def _site(sites: Sequence[str]) -> str:
    return sites[0] if len(sites) == 1 else EVERY_SITE


def _person(person: people.Person) -> Answer:
    return {
        "name": person.name,
        "role": person.role,
        "sites": list(person.sites),
        "disabled": person.disabled,
    }


def _token(token: people.ApiToken) -> Answer:
    return {
        "id": token.id,
        "label": token.label,
        "role": token.role,
        "sites": list(token.sites),
        "created_ms": token.created_ms,
        "revoked_ms": token.revoked_ms,
    }


def _gateway(found: gateway_store.GatewayView) -> Answer:
    return {
        "site": found.site,
        "name": found.name,
        "state": found.state,
        "devices": found.devices,
        "last_contact_ms": found.last_contact_ms,
    }

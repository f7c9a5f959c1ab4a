"""Finds out whom a secret belongs to: a session cookie, an API token, a gateway's credential."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collector import auth
from collector.auth import Bearer
from collector.exchange import GatewayIdentity
from collector.gathering import Gathering
from collector.guard import Session
from collector.store import DATABASE_AWAY, Store, enrolment, people
from collector.store.enrolment import Credential
from collector.tickets import Actor, Role

# How exactly the last sign of a person is kept; each keeping is a write.
TOUCH_MS = 60_000
CREDENTIALS_AT_ONCE = 256


class StoredIdentities:
    """Asks the store every time, so that what is revoked is refused at once. A gateway is remembered: its
    credential is looked at in each transaction that takes what it says.
    """

    def __init__(self, store: Store, *, idle_ms: int, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._idle_ms = idle_ms
        self._now_ms = now_ms
        self._credentials: Gathering[str, Credential | None] = Gathering(
            self._asked, at_most=CREDENTIALS_AT_ONCE, everybodys=DATABASE_AWAY
        )
        # By their public half; those that were good when they were asked.
        self._remembered: dict[str, Credential] = {}

    async def session(self, cookie: str, *, touch: bool) -> Session | None:
        id_hash = auth.sha256(cookie)
        found = await self._store.read_soon(lambda connection: people.session(connection, id_hash))
        now_ms = self._now_ms()
        if found is None or found.person.disabled or found.expires_ms <= now_ms:
            return None
        if found.last_seen_ms + self._idle_ms <= now_ms:
            return None
        if touch and found.last_seen_ms + TOUCH_MS <= now_ms:
            await self._store.write_soon(lambda connection: people.touch_session(connection, id_hash, now_ms))
        return Session(cookie=cookie, actor=_actor(found.person))

    async def token(self, bearer: Bearer) -> Actor | None:
        found = await self._store.read_soon(lambda connection: people.api_token(connection, bearer.id))
        right = auth.same(auth.sha256(bearer.secret), found.secret_sha256 if found else auth.sha256(""))
        if found is None or not right or found.revoked_ms is not None:
            return None
        return Actor(name=f"token {found.label}", role=Role(found.role), sites=frozenset(found.sites))

    async def gateway(self, bearer: Bearer) -> GatewayIdentity | None:
        public = auth.GATEWAY_PREFIX + bearer.id
        found = self._remembered.get(public) or await self._credentials(public)
        right = auth.same(auth.sha256(bearer.secret), found.secret_sha256 if found else auth.sha256(""))
        if found is None or not right or found.revoked:
            return None
        self._remembered[public] = found
        return found.gateway

    def forget(self, credential_id: str) -> None:
        self._remembered.pop(credential_id, None)

    async def _asked(self, ids: Sequence[str]) -> list[Credential | None]:
        found = await self._store.read_soon(lambda connection: enrolment.credentials(connection, ids))
        return [found.get(one) for one in ids]


def _actor(person: people.Person) -> Actor:
    return Actor(name=person.name, role=Role(person.role), sites=frozenset(person.sites))

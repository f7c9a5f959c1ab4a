"""``POST /api/v1/enroll``: a one-off token and the hash of a secret become a gateway's credential."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request
from sqlalchemy import Connection

from collector import auth
from collector.parts import parts_of
from collector.problems import Problem
from collector.store import audit, enrolment
from collector.store.enrolment import Enrolled, Refusal, Refused
from edge_agent import wire

router = APIRouter()
log = structlog.get_logger()

REFUSALS: dict[Refusal, tuple[int, str]] = {
    Refusal.UNKNOWN: (
        401,
        "this enrolment token is not known here; make a new one with: collector gateway add",
    ),
    Refusal.EXPIRED: (
        410,
        "this enrolment token is good no longer; make a new one with: collector gateway add",
    ),
    Refusal.USED: (
        409,
        "this enrolment token was redeemed by another box; if that was not you, revoke that gateway",
    ),
    Refusal.REPLACED: (
        410,
        "this gateway has been enrolled anew since; make a new token with: collector gateway add",
    ),
    Refusal.REVOKED: (
        410,
        "this gateway has been revoked since; make a new token with: collector gateway add",
    ),
}


@router.post(
    wire.ENROLL_PATH,
    tags=["gateways"],
    summary="Redeem a one-off token; the same token and hash again get the same answer",
    response_model=wire.EnrollAnswer,
)
async def enroll(request: Request, asked: wire.EnrollRequest) -> wire.EnrollAnswer:
    parts = parts_of(request)
    now_ms = parts.now_ms()
    credential_id = auth.GATEWAY_PREFIX + auth.new_id()
    gateway_id = auth.new_id()

    def redeem(connection: Connection) -> Enrolled | Refused:
        outcome = enrolment.redeem(
            connection,
            token_hash=auth.sha256(asked.token),
            secret_sha256=asked.secret_hash,
            new_gateway_id=gateway_id,
            new_credential_id=credential_id,
            now_ms=now_ms,
        )
        action = "gateway enrolled" if isinstance(outcome, Enrolled) else f"enrolment refused: {outcome.why}"
        if outcome.site:
            audit.write(
                connection,
                actor=f"gateway {outcome.gateway}",
                action=action,
                subject=outcome.gateway,
                site=outcome.site,
                detail={"facts": {name[:64]: fact[:200] for name, fact in asked.facts.items()}},
                at_ms=now_ms,
            )
        return outcome

    outcome = await parts.store.write_soon(redeem)
    if isinstance(outcome, Refused):
        log.warning(
            "an enrolment was refused", why=outcome.why.value, site=outcome.site, gateway=outcome.gateway
        )
        status, detail = REFUSALS[outcome.why]
        raise Problem(status, detail, reason=f"token-{outcome.why}")
    log.info("a gateway was enrolled", site=outcome.site, gateway=outcome.gateway)
    return wire.EnrollAnswer(site=outcome.site, gateway=outcome.gateway, credential=outcome.credential_id)

"""The token service: `POST /token` for both grant types and `POST /revoke`.

It checks in dex's order (client, grant type, parameters, the token itself), says no in the words
of its profile, and writes the ledger.
Between looking at a token and rotating it nothing is awaited, so each rotation happens once.
It must not know how answers reach the client or go astray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from sidecar.sandbox.credentials import body_credentials, prove_client
from sidecar.sandbox.delivery import Vanish, deliver, obstacle, reset, send
from sidecar.sandbox.form_input import first_of_each, read_fields
from sidecar.sandbox.grants import CodeRefused, Issued, RefreshRefused
from sidecar.sandbox.id_tokens import claims_of, hash_of_access_token
from sidecar.sandbox.ids import digest, new_access_token
from sidecar.sandbox.ledger import Entry
from sidecar.sandbox.replies import Reply, json_reply
from sidecar.sandbox.token_errors import (
    PROVIDER_DOWN,
    REVOKE_HINT_UNSUPPORTED,
    REVOKE_INVALID,
    REVOKE_UNAUTHORIZED,
    TOKEN_ERRORS,
    TokenErrors,
)

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.sandbox.credentials import Place
    from sidecar.sandbox.delivery import Delivered
    from sidecar.sandbox.faults import Operation
    from sidecar.sandbox.ledger import Outcome
    from sidecar.sandbox.world import World

Form: TypeAlias = Mapping[str, str]

_OPERATIONS: Final[Mapping[str, Operation]] = {
    "authorization_code": "obtain",
    "refresh_token": "refresh",
}
_REVOCABLE: Final = "refresh_token"  # the only hint there is
_ACCESS_TOKEN_LIFE_S: Final = 3600


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A token request as far as it is understood before anything is checked."""

    operation: Operation
    form: Form
    authorization: str | None
    client_ip_port: str
    request_id: str | None
    arrived_at: float

    @property
    def refresh_token(self) -> str:
        match self.operation:
            case "refresh":
                return self.form.get("refresh_token", "")
            case "revoke":
                return self.form.get("token", "")
            case _:
                return ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    reply: Reply
    outcome: Outcome = "error"
    successor: str | None = None


@final
class TokenService:
    """Answers token requests out of the world's grants."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unanswered: set[str] = set()

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Obtain or refresh a token set."""
        form = first_of_each(await read_fields(request))
        operation = _OPERATIONS.get(form.get("grant_type", ""))
        if operation is None:
            operation = "refresh" if "refresh_token" in form else "obtain"
        return await self._answer(request, self._call(request, operation, form))

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """Revoke the grant of a refresh token."""
        form = first_of_each(await read_fields(request))
        return await self._answer(request, self._call(request, "revoke", form))

    async def _answer(self, request: web.Request, call: _Call) -> web.StreamResponse:
        world = self._world
        user, provider = self._owner(call)
        fault = world.faults.take(call.operation, user=user, provider=provider)
        match await obstacle(fault, world, data=False):
            case Vanish():
                seq = self._note(call, _Verdict(reply=Reply(status=0), outcome="dropped"))
                delivered, status = reset(request), None
            case Reply() as reply:
                seq = self._note(call, _Verdict(reply=reply))
                delivered = await deliver(request, reply, fault, world, data=False)
                status = reply.status
            case _:
                verdict = self._decide(call)
                seq = self._note(call, verdict)
                delivered = await deliver(request, verdict.reply, fault, world, data=False)
                status = _status_of(delivered, verdict.reply)
        await self._settle(request, seq, delivered, status)
        self._unanswered.discard(call.refresh_token)
        return delivered.response

    async def _settle(
        self, request: web.Request, seq: int | None, delivered: Delivered, status: int | None
    ) -> None:
        """Let the answer leave, then note in the ledger that it has left."""
        if seq is None:
            return
        is_sent = delivered.answer == "sent"
        gone = is_sent and not (delivered.is_out or await send(request, delivered.response))
        ledger = self._world.ledger
        ledger.settle(seq, at=self._world.clock(), answer=delivered.answer, status=status)
        if gone:
            ledger.miss_client(seq)

    def _decide(self, call: _Call) -> _Verdict:
        match call.operation:
            case "obtain":
                return self._obtain(call)
            case "refresh":
                return self._refresh(call)
            case _:
                return self._revoke(call)

    def _obtain(self, call: _Call) -> _Verdict:
        world, form = self._world, call.form
        known = form.get("grant_type") == "authorization_code"
        place: Place = "basic" if known else "either"
        if not prove_client(call.authorization, form, place=place, settings=world.settings):
            return _Verdict(reply=self._errors.client)
        if not known:
            errors = self._errors
            return _Verdict(reply=errors.not_obtain if "code" in form else errors.grant_type)
        if self._is_provider_down(call):
            return _Verdict(reply=PROVIDER_DOWN)
        redeemed = world.grants.redeem(
            form.get("code", ""),
            redirect_uri=form.get("redirect_uri", ""),
            now=world.clock(),
            settings=world.settings,
        )
        match redeemed:
            case CodeRefused(redirect_mismatch=True):
                return _Verdict(reply=self._errors.redirect)
            case CodeRefused():
                return _Verdict(reply=self._errors.code)
            case Issued():
                return _Verdict(reply=self._token_set(redeemed), outcome="rotated")

    def _refresh(self, call: _Call) -> _Verdict:
        world, form = self._world, call.form
        known = form.get("grant_type") == "refresh_token"
        place: Place = "body" if known else "either"
        if not prove_client(call.authorization, form, place=place, settings=world.settings):
            return _Verdict(reply=self._errors.client)
        if not known:
            return _Verdict(reply=self._errors.not_refresh)
        if not call.refresh_token:
            return _Verdict(reply=self._errors.token_missing)
        if self._is_provider_down(call):
            return _Verdict(reply=PROVIDER_DOWN)
        return self._rotate(call)

    def _rotate(self, call: _Call) -> _Verdict:
        world, errors = self._world, self._errors
        is_racing = world.settings.race_error and call.refresh_token in self._unanswered
        if is_racing and world.settings.profile == "hydra":
            # Hydra notices the race in its store, before it could take the token for stolen.
            return _Verdict(reply=errors.race, outcome="denied")
        rotated = world.grants.rotate(
            call.refresh_token, now=world.clock(), settings=world.settings
        )
        match rotated:
            case Issued(in_grace=in_grace):
                outcome: Outcome = "grace" if in_grace else "rotated"
                self._unanswered.add(call.refresh_token)
                return _Verdict(
                    reply=self._token_set(rotated),
                    outcome=outcome,
                    successor=digest(rotated.refresh_token or ""),
                )
            case RefreshRefused(family_revoked=True):
                return _Verdict(reply=errors.token_reused, outcome="family_revoked")
            case RefreshRefused():
                reply = errors.race if is_racing else errors.token_dead
                return _Verdict(reply=reply, outcome="denied")

    @property
    def _errors(self) -> TokenErrors:
        return TOKEN_ERRORS[self._world.settings.profile]

    def _is_provider_down(self, call: _Call) -> bool:
        """Tell whether the bank behind a call is away, as dex finds out before it rotates."""
        _, provider = self._owner(call)
        return provider in self._world.settings.providers_down

    def _revoke(self, call: _Call) -> _Verdict:
        settings, form = self._world.settings, call.form
        given = body_credentials(form)
        basic_only = call.authorization is not None and not settings.strict_auth
        complete = all(form.get(name) for name in ("token", "token_type_hint"))
        if not complete or not (basic_only or (given.client_id and given.client_secret)):
            return _Verdict(reply=REVOKE_INVALID)
        if not basic_only and given.client_id != settings.client_id:
            return _Verdict(reply=REVOKE_INVALID)
        if not prove_client(call.authorization, form, place="body", settings=settings):
            return _Verdict(reply=REVOKE_UNAUTHORIZED)
        if form["token_type_hint"] != _REVOCABLE:
            return _Verdict(reply=REVOKE_HINT_UNSUPPORTED)
        if not self._world.grants.revoke(call.refresh_token):
            return _Verdict(reply=REVOKE_INVALID, outcome="denied")
        return _Verdict(reply=Reply(status=200), outcome="revoked")

    def _token_set(self, issued: Issued) -> Reply:
        world = self._world
        now, life_s = world.clock(), world.settings.id_token_life_s
        claims = dict(
            claims_of(
                issued.grant,
                issuer=world.issuer,
                client_id=world.settings.client_id,
                now=now,
                life_s=life_s,
            )
        )
        world.grants.note_id_token(str(claims["jti"]), issued.grant)
        document: dict[str, object] = {"token_type": "bearer"}
        if world.settings.profile == "hydra":
            access_token = new_access_token()
            claims["at_hash"] = hash_of_access_token(access_token)
            # Of the access token, as in Hydra: it tells nothing of the id_token.
            document |= {
                "access_token": access_token,
                "expires_in": _ACCESS_TOKEN_LIFE_S,
                "scope": " ".join(sorted(issued.grant.consent.scopes)),
            }
        else:
            document["expires_in"] = int(now + life_s) - int(now)
        document["id_token"] = world.signer.sign(claims)
        if issued.refresh_token is not None:
            document["refresh_token"] = issued.refresh_token
        return json_reply(document, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    def _owner(self, call: _Call) -> tuple[str | None, str | None]:
        """Find whose code or token a call carries, before anything is checked."""
        grants = self._world.grants
        token = grants.token(call.refresh_token)
        if token is not None:
            consent = grants.grant(token.grant_id).consent
        else:
            found = grants.consent_of(call.form.get("code", ""))
            if found is None:
                return None, None
            consent = found
        return consent.user, consent.provider

    def _note(self, call: _Call, verdict: _Verdict) -> int | None:
        """Write a presentation into the ledger; a call that carries no refresh token is none."""
        if call.operation not in ("refresh", "revoke") or not call.refresh_token:
            return None
        user, provider = self._owner(call)
        token = self._world.grants.token(call.refresh_token)
        entry = Entry(
            at=self._world.clock(),
            arrived_at=call.arrived_at,
            presentation=call.operation,
            token=digest(call.refresh_token),
            successor=verdict.successor,
            user=user,
            provider=provider,
            family=None if token is None else token.grant_id,
            generation=None if token is None else token.generation,
            outcome=verdict.outcome,
            status=verdict.reply.status or None,
            client_ip_port=call.client_ip_port,
            request_id=call.request_id,
        )
        return self._world.ledger.add(entry)

    def _call(self, request: web.Request, operation: Operation, form: Form) -> _Call:
        peer = request.transport and request.transport.get_extra_info("peername")
        return _Call(
            operation=operation,
            form=form,
            authorization=request.headers.get("Authorization"),
            client_ip_port=f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "",
            request_id=request.headers.get("X-Request-Id"),
            arrived_at=self._world.clock(),
        )


def _status_of(delivered: Delivered, reply: Reply) -> int:
    """Tell the status on the wire, or the one that was lost on the way."""
    return delivered.response.status if delivered.answer == "sent" else reply.status

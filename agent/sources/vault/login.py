"""Tokens of Vault: had by login as the pod or by an AppRole, renewed, revoked. By hvac, see `bridge`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.credentials import Credentials
from agent.sources.vault.answers import Auth, given_token
from agent.sources.vault.bridge import Bridge, Declined
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.login_refusal import login_refusal
from agent.sources.vault.replies import refusal, words_of
from agent.sources.vault.settings import APPROLE_DIR, VaultSettings
from agent.vault_ref import Identity
from kernelsecret.errors import Refused
from kernelsecret.interceptor import VaultMethod
from kernelsecret.problems import quoted

Call = Callable[[Any], Any]
"""What hvac does with an adapter of its own kind."""

_MAX_ID: Final = 4096
"""Bytes of an id of an AppRole."""
_ENDED: Final = ("invalid token", "bad token")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How hvac logs in, and what it sends that must never be shown."""

    call: Call
    hide: tuple[str, ...]


class Logins:
    """Every method raises VaultError."""

    def __init__(
        self,
        settings: VaultSettings,
        credentials: Credentials,
        bridge: Bridge,
        require_up: Callable[[], Coroutine[Any, Any, None]],
        where: str,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._bridge = bridge
        self._require_up = require_up
        self._where = where

    async def log_in(self, identity: Identity) -> Auth:
        """A new token, by the pod's newest token or the AppRole's files as they are now."""
        if identity.method is None:
            return await self._given(identity)
        attempt = self._attempt(identity)
        try:
            auth = await self._auth(attempt.call, "", identity)
        except Declined as declined:
            raise login_refusal(declined.reply, identity, self._where, attempt.hide) from None
        if auth.num_uses:
            await self.revoke(identity, auth.client_token)
            why = f"the role {quoted(identity.role)} gives tokens that end after {auth.num_uses} uses"
            raise VaultError(Kind.LOGIN, "source.vault.role", why, "set its token_num_uses to 0")
        return auth

    async def _given(self, identity: Identity) -> Auth:
        """A token that somebody else has logged in for, as Vault says that it is."""
        token = self._credential(identity)

        def call(adapter: Any) -> Any:
            from hvac.api.auth_methods import Token

            tokens: Any = Token(adapter=adapter)
            return tokens.lookup_self()

        try:
            answer = await self._bridge.run(call, self._require_up, token, identity.namespace)
        except Declined as declined:
            error = self._declined(declined, identity, "auth/token/lookup-self", token)
            if error.kind is Kind.DENIED:  # its policies do not let it look at itself: it lasts while it lasts
                return Auth(token)
            raise error from None
        found = given_token(answer, self._where)
        if found.num_uses:
            why = f"ends after {found.num_uses} uses"
            raise VaultError(Kind.LOGIN, "token", why, "bring one without a limit of uses")
        if found.ends and found.ttl <= 0:
            raise VaultError(Kind.LOGIN, "token", "it has ended", "bring another one")
        return Auth(token, found.accessor, found.ttl if found.ends else 0, found.renewable, found.type)

    async def renew(self, identity: Identity, token: str) -> Auth:
        """Let a token live on."""

        def call(adapter: Any) -> Any:
            from hvac.api.auth_methods import Token

            tokens: Any = Token(adapter=adapter)
            return tokens.renew_self()

        try:
            return await self._auth(call, token, identity)
        except Declined as declined:
            raise self._declined(declined, identity, "auth/token/renew-self", token) from None

    async def revoke(self, identity: Identity, token: str) -> None:
        """End a token with all its leases; one that has ended already is no error."""

        def call(adapter: Any) -> Any:
            from hvac.api.auth_methods import Token

            tokens: Any = Token(adapter=adapter)
            return tokens.revoke_self()

        try:
            await self._bridge.run(call, self._require_up, token, identity.namespace)
        except Declined as declined:
            if not has_ended(declined.reply.status, words_of(declined.reply)):
                raise self._declined(declined, identity, "auth/token/revoke-self", token) from None

    async def _auth(self, call: Call, token: str, identity: Identity) -> Auth:
        answer = await self._bridge.run(call, self._require_up, token, identity.namespace)
        try:
            auth = msgspec.convert(answer["auth"], Auth)
        except (msgspec.ValidationError, KeyError, TypeError):
            auth = Auth()
        if not auth.client_token or not all("!" <= character <= "~" for character in auth.client_token):
            raise VaultError(Kind.BAD_ANSWER, self._where, "the answer to a login has no token", "is it Vault?")
        return auth

    def _declined(self, declined: Declined, identity: Identity, path: str, token: str) -> VaultError:
        reply = declined.reply
        error = refusal(reply, self._where, path, str(identity), wrote=True, hide=(token,))
        if identity.method is None and has_ended(reply.status, words_of(reply)):
            return VaultError(Kind.LOGIN, "token", "Vault does not know it, or it has ended", "bring another one")
        if has_ended(reply.status, words_of(reply)):
            return VaultError(Kind.LOGIN, "token", f"that of {identity} has ended")
        return error

    def _attempt(self, identity: Identity) -> _Attempt:
        match identity.method:
            case VaultMethod.KUBERNETES:
                jwt = self._credential(identity)

                def by_kubernetes(adapter: Any) -> Any:
                    from hvac.api.auth_methods import Kubernetes

                    return Kubernetes(adapter=adapter).login(identity.role, jwt, False, identity.mount)

                return _Attempt(by_kubernetes, (jwt,))
            case VaultMethod.JWT:
                jwt = self._credential(identity)

                def by_jwt(adapter: Any) -> Any:
                    from hvac.api.auth_methods import JWT

                    return JWT(adapter=adapter).jwt_login(identity.role, jwt, False, identity.mount)

                return _Attempt(by_jwt, (jwt,))
            case VaultMethod.APP_ROLE:
                role_id, secret_id = self._approle(identity.credential)

                def by_approle(adapter: Any) -> Any:
                    from hvac.api.auth_methods import AppRole

                    return AppRole(adapter=adapter).login(role_id, secret_id or None, False, identity.mount)

                return _Attempt(by_approle, (role_id, secret_id))

            case None:
                raise AssertionError("nobody logs in for a token that is given")

    def _credential(self, identity: Identity) -> str:
        try:
            return self._credentials.token(identity.reader, identity.audience).token
        except Refused as lack:
            raise VaultError(Kind.NO_CREDENTIAL, lack.field, lack.why, lack.fix) from None

    def _approle(self, credential: str) -> tuple[str, str]:
        """Role id and secret id as they are now; a role that binds no secret id has no file of one."""
        field = "source.vault.auth.credential"
        if self._settings.approle_dir is None:
            fix = f"set {APPROLE_DIR} to a folder with {credential or 'NAME'}/role-id and /secret-id"
            raise VaultError(Kind.LOGIN, field, "this agent has no AppRoles", fix)
        if not credential or "/" in credential or credential.startswith("."):
            raise VaultError(Kind.LOGIN, field, f"{quoted(credential)} is no name of an AppRole's folder")
        folder = self._settings.approle_dir / credential
        return _id_in(folder / "role-id", needed=True), _id_in(folder / "secret-id", needed=False)


def has_ended(status: int, words: str) -> bool:
    """Whether Vault refuses because it does not know the token, and not because of its policies."""
    return status == 403 and any(word in words for word in _ENDED)


def _id_in(path: Path, *, needed: bool) -> str:
    try:
        with path.open("rb") as opened:
            found = opened.read(_MAX_ID + 1)
        text = found.decode("ascii").strip()
        why = "is empty" if not text else "" if len(found) <= _MAX_ID else "is too long"
    except FileNotFoundError:
        text, why = "", "is missing" if needed else ""
    except OSError as error:
        text, why = "", f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        text, why = "", "is not text"
    if why:
        raise VaultError(Kind.LOGIN, str(path), why, "put the id that Vault gave for the AppRole there")
    return text

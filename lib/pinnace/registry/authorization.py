"""Getting the right to read a repository: basic and bearer authentication of registries.

A registry answers 401 with a ``WWW-Authenticate`` challenge; a bearer challenge names a
service that gives tokens, without credentials for what is public. Credentials go to the registry
itself and to the token service that it names, never further, and without https only where the
registry is configured to be reached without.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from pinnace.errors import RegistryError
from pinnace.reference import DOCKER_HUB
from pinnace.registry import tokens
from pinnace.registry.transport import is_web_address

if TYPE_CHECKING:
    from pinnace.registry.transport import Transport
    from pinnace.secret import Credential, Secret

_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Challenge:
    """What a registry asks for: ``scheme`` in lower case and its parameters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenge(header: str) -> Challenge:
    """The first challenge of a WWW-Authenticate header (RFC 9110, 11.6.1)."""
    scheme, _, rest = header.strip().partition(" ")
    found = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
        for name, quoted, bare in _PARAMETER.findall(rest)
    }
    return Challenge(scheme.lower(), found)


class Keyring(Protocol):
    """Where credentials for one registry come from; ``user`` is whom the reference names, if anybody."""

    user: str | None

    def find(self, repository: str, realm: str) -> Credential | None:
        """What to show for reading ``repository``; ``realm`` is the token service's host or empty."""

    def places(self) -> list[str]:
        """Where it looks, for people."""


@dataclass(frozen=True)
class _Grant:
    """An Authorization header, until when it is sent, and the challenge that it answered."""

    header: Secret
    challenge: Challenge
    until: float = float("inf")


class Authorizer:
    """Answers the challenges of one registry and keeps what it got, by repository.

    Several threads may use it; only one asks for a token.
    """

    def __init__(
        self,
        transport: Transport,
        keyring: Keyring | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._keyring = keyring
        self._clock = clock
        self._lock = threading.RLock()
        self._grants: dict[str, _Grant] = {}
        self._credentials: dict[tuple[str, str], Credential | None] = {}
        self._used: dict[str, Credential | None] = {}

    def header(self, repository: str) -> Secret | None:
        """The Authorization header to send for ``repository``, if one is known; renewed if it has expired.

        Raises RegistryError if it cannot be renewed.
        """
        with self._lock:
            grant = self._grants.get(repository)
            if grant is not None and self._clock() >= grant.until:
                grant = self._grants[repository] = self._grant(repository, grant.challenge)
            return grant.header if grant else None

    def answer(self, repository: str, header: str, refused: Secret | None = None) -> None:
        """Get a header for reading ``repository``; ``refused`` is the one that was sent in vain.

        Raises RegistryError if none can be had, CredentialError if a source of credentials is malformed.
        """
        with self._lock:
            grant = self._grants.get(repository)
            if grant is not None and grant.header != refused:
                return  # another thread was quicker
            self._grants[repository] = self._grant(repository, parse_challenge(header))

    def credential(self, repository: str) -> Credential | None:
        """What is shown for reading ``repository``."""
        return self._used.get(repository)

    def refused(self, repository: str) -> RegistryError:
        """The error for a 401 that answering did not change."""
        credential = self._used.get(repository)
        if credential is None:
            return self._unauthorized(repository)
        grant = self._grants.get(repository)
        if grant is None or grant.challenge.scheme == "basic" or credential.registry_token:
            return self._rejected(repository, credential, "anonymous users get nothing there either")
        return RegistryError(
            f"registry {self._transport.host} does not let {credential.who} read {repository}"
            " (401 Unauthorized)",
            hint="check the image's name and that this user may read it",
            identifier="registry-unauthorized",
        )

    def _grant(self, repository: str, challenge: Challenge) -> _Grant:
        if challenge.scheme == "basic":
            credential = self._credential(repository, "")
            if credential is None or credential.password is None:
                raise self.refused(repository)
            return _Grant(tokens.basic(credential.username, credential.password), challenge)
        if challenge.scheme != "bearer" or "realm" not in challenge.parameters:
            raise self._unauthorized(repository)
        service = self._service(repository, challenge)
        credential = self._credential(repository, service.host)
        if credential is not None and credential.registry_token:
            return _Grant(tokens.bearer(credential.registry_token), challenge)
        try:
            token = tokens.fetch(self._transport, service, credential)
        except tokens.Rejected:
            if credential is None:
                raise self._unauthorized(repository) from None
            anonymous = self._anonymous(repository, service)
            raise self._rejected(repository, credential, anonymous) from None
        if credential is not None and credential.identity_token and token.refresh:
            # Some services give a new one each time and forget the old one.
            renewed = replace(credential, identity_token=token.refresh)
            self._credentials[repository, service.host] = renewed
        return _Grant(token.header, challenge, self._clock() + token.lifetime)

    def _service(self, repository: str, challenge: Challenge) -> tokens.Service:
        host, realm = self._transport.host, challenge.parameters["realm"]
        if not is_web_address(realm):
            raise RegistryError(f"registry {host} asks to fetch a token at {realm!r}")
        if urlsplit(realm).scheme != "https" and not self._transport.base.startswith("http:"):
            raise RegistryError(f"registry {host} asks to fetch a token without https at {realm}")
        query = {}
        if scope := challenge.parameters.get("scope") or (repository and f"repository:{repository}:pull"):
            query["scope"] = scope
        if service := challenge.parameters.get("service"):
            query["service"] = service
        return tokens.Service(realm, query)

    def _credential(self, repository: str, realm: str) -> Credential | None:
        """What the keyring has; asked once, since helpers may ask people."""
        key = (repository, realm)
        if key not in self._credentials:
            found = self._keyring.find(repository, realm) if self._keyring else None
            self._credentials[key] = found
        self._used[repository] = self._credentials[key]
        return self._credentials[key]

    def _anonymous(self, repository: str, service: tokens.Service) -> str:
        """Whether credentials are needed at all, in words."""
        refused = "anonymous users may not read it either"
        if not repository:
            return ""
        try:
            token = tokens.fetch(self._transport, service, None)
            headers = {"Authorization": token.header.reveal()}
            with self._transport.get(f"/v2/{repository}/tags/list?n=1", headers=headers) as response:
                public = response.status_code == 200
        except tokens.Rejected:
            return refused
        except RegistryError:
            return ""
        return "it can be read without credentials" if public else refused

    def _rejected(self, repository: str, credential: Credential, anonymous: str) -> RegistryError:
        host = self._transport.host
        login = f"`pinnace login {_login_name(host)}`"
        what = f" for {repository}" if repository else ""
        return RegistryError(
            f"registry {host} rejects {credential.who}{what} (401 Unauthorized)",
            context=anonymous or None,
            hint=f"correct or remove it there, or {login} with a password that is valid",
            identifier="registry-login-rejected",
        )

    def _unauthorized(self, repository: str) -> RegistryError:
        """The error for an image that needs credentials, or does not exist: registries don't tell which."""
        host = self._transport.host
        user = self._keyring.user if self._keyring else None
        option = f"--username {user} " if user else ""
        looked = ""
        if self._keyring:
            of = f"for user {user} of" if user else "for"
            looked = f"no credentials {of} {_login_name(host)} in {', '.join(self._keyring.places())}"
        return RegistryError(
            f"registry {host} does not let anonymous users read {repository or 'it'} (401 Unauthorized)",
            context=looked or None,
            hint=f"check the image's name, or `pinnace login {option}{_login_name(host)}`",
            identifier="registry-unauthorized",
        )


def _login_name(host: str) -> str:
    return "docker.io" if host == DOCKER_HUB else host

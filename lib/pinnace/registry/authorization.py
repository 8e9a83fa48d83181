"""Getting the right to read a repository: the bearer token flow of Docker's and OCI's registries.

A registry answers 401 with a ``WWW-Authenticate`` challenge; a bearer challenge names a
service that gives tokens, without credentials for what is public.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pinnace.errors import RegistryError
from pinnace.registry.transport import is_web_address

if TYPE_CHECKING:
    import requests

    from pinnace.registry.transport import Transport

_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
#: Bytes of a token answer that are read at most.
_MAX_ANSWER = 1 << 20


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


class Authorizer:
    """Answers the challenges of one registry and keeps what it got, by repository."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._headers: dict[str, str] = {}

    def header(self, repository: str) -> str | None:
        """The Authorization header to send for ``repository``, if one is known."""
        return self._headers.get(repository)

    def answer(self, repository: str, header: str) -> None:
        """Get a token for reading ``repository``. Raises RegistryError if none can be had."""
        host = self._transport.host
        challenge = parse_challenge(header)
        if challenge.scheme != "bearer" or "realm" not in challenge.parameters:
            raise unauthorized(host, repository)
        realm = challenge.parameters["realm"]
        if not is_web_address(realm):
            raise RegistryError(f"registry {host} asks to fetch a token at {realm!r}")
        if urlsplit(realm).scheme != "https" and not self._transport.base.startswith("http:"):
            raise RegistryError(f"registry {host} asks to fetch a token without https at {realm}")
        query = {"scope": challenge.parameters.get("scope") or f"repository:{repository}:pull"}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        separator = "&" if urlsplit(realm).query else "?"
        response = self._transport.get(f"{realm}{separator}{urlencode(query)}")
        with response:
            if response.status_code in (401, 403):
                raise unauthorized(host, repository)
            if response.status_code != 200:
                where = urlsplit(realm).netloc
                raise RegistryError(
                    f"registry {host} gives no token: {where} answered {response.status_code}",
                    hint="try again later",
                )
            token = _token(_read(response, host))
        if token is None:
            raise RegistryError(f"registry {host} gives no token: {urlsplit(realm).netloc} sent none")
        self._headers[repository] = f"Bearer {token}"


def unauthorized(host: str, repository: str) -> RegistryError:
    """The error for an image that needs credentials, or does not exist: registries don't tell which."""
    return RegistryError(
        f"registry {host} does not let anonymous users read {repository} (401 Unauthorized)",
        hint="check the image's name; images that need a login cannot be pulled yet",
        identifier="registry-unauthorized",
    )


def _read(response: requests.Response, host: str) -> bytes:
    from urllib3.exceptions import HTTPError

    try:
        body: bytes = response.raw.read(_MAX_ANSWER)
    except (HTTPError, OSError) as error:
        raise RegistryError(
            f"registry {host} gives no token: the transfer broke off",
            context=type(error).__name__,
            hint="try again",
        ) from None
    return body


def _token(body: bytes) -> str | None:
    try:
        answer: Any = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        return None
    # A line break would let the token service add headers of its own.
    return token if isinstance(token, str) and token.isprintable() and token.isascii() else None

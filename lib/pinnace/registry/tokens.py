"""Token services: one request for a bearer token, with or without credentials.

Sources: distribution's "Token Authentication Specification" and its OAuth2 companion
(distribution.github.io/distribution/spec/auth); containerd falls back in the same places.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pinnace.errors import RegistryError
from pinnace.secret import Credential, Secret

if TYPE_CHECKING:
    import requests

    from pinnace.registry.transport import Transport

#: Bytes of a token answer that are read at most.
_MAX_ANSWER = 1 << 20
#: Seconds that a token lives if its service does not say: the specification's default.
_LIFETIME = 60.0
#: Part of its life after which a token is renewed before it is refused.
_USED = 0.9
#: Answers of a service that knows no OAuth2: asked by GET it may give a token all the same.
_NO_OAUTH = frozenset((404, 405))
_REJECTED = frozenset((400, 401, 403))
#: The user name that goes with an identity token where it is sent as a password.
_TOKEN_USER = "<token>"


@dataclass(frozen=True)
class Service:
    """What a bearer challenge names: where tokens are, for whom and for what."""

    realm: str
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.realm).netloc.rpartition("@")[2]


@dataclass(frozen=True)
class Token:
    """``header`` is the value for Authorization; ``lifetime`` in seconds from its arrival."""

    header: Secret
    lifetime: float
    refresh: Secret | None = None


class Rejected(Exception):
    """The service does not take the credentials, or gives nothing to those who have none."""


def basic(username: str, password: Secret) -> Secret:
    """The value for Authorization by user name and password (RFC 7617)."""
    pair = f"{username}:{password.reveal()}".encode("utf-8", "surrogateescape")
    return Secret(f"Basic {base64.b64encode(pair).decode()}")


def bearer(token: Secret) -> Secret:
    """The value for Authorization by a token (RFC 6750)."""
    return Secret(f"Bearer {token.reveal()}")


def fetch(transport: Transport, service: Service, credential: Credential | None) -> Token:
    """Ask for a token. Raises Rejected, or RegistryError if the service does not work."""
    if credential is not None and credential.identity_token:
        response = _post(transport, service, credential.identity_token)
        if response.status_code not in _NO_OAUTH:
            return _answer(response, transport.host, service)
        response.close()
        username, password = credential.username or _TOKEN_USER, credential.identity_token
        return _get(transport, service, basic(username, password))
    if credential is not None and credential.password is not None:
        return _get(transport, service, basic(credential.username, credential.password))
    return _get(transport, service, None)


def _get(transport: Transport, service: Service, authorization: Secret | None) -> Token:
    separator = "&" if urlsplit(service.realm).query else "?"
    url = f"{service.realm}{separator}{urlencode(service.query)}" if service.query else service.realm
    headers = {"Authorization": authorization.reveal()} if authorization else {}
    return _answer(transport.get(url, headers=headers), transport.host, service)


def _post(transport: Transport, service: Service, token: Secret) -> requests.Response:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": token.reveal(),
        "client_id": "pinnace",
        **service.query,
    }
    return transport.get(service.realm, method="POST", form=form)


def _answer(response: requests.Response, host: str, service: Service) -> Token:
    with response:
        if response.status_code in _REJECTED:
            raise Rejected
        if response.status_code != 200:
            raise RegistryError(
                f"registry {host} gives no token: {service.host} answered {response.status_code}",
                hint="try again later",
            )
        token = _token(_read(response, host), response.headers.get("Date", ""))
    if token is None:
        raise RegistryError(f"registry {host} gives no token: {service.host} sent none")
    return token


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


def _token(body: bytes, date: str) -> Token | None:
    try:
        answer: Any = json.loads(body)
        text = answer.get("token") or answer.get("access_token")
        refresh = answer.get("refresh_token")
    except (ValueError, AttributeError, RecursionError):
        return None
    # A line break would let the token service add headers of its own.
    if not isinstance(text, str) or not (text.isprintable() and text.isascii()):
        return None
    kept = Secret(refresh) if isinstance(refresh, str) and refresh else None
    return Token(bearer(Secret(text)), _lifetime(answer, date), kept)


def _lifetime(answer: dict[str, Any], date: str) -> float:
    """Seconds for which a token is used: what its service says less the age it had already."""
    said = answer.get("expires_in")
    lifetime = _LIFETIME
    if isinstance(said, (int, float)) and not isinstance(said, bool) and 0 < said < 1e9:
        lifetime = said
    try:
        # Both times are the service's, so that this machine's clock does not matter.
        issued = datetime.fromisoformat(str(answer.get("issued_at")).replace("Z", "+00:00"))
        age = (parsedate_to_datetime(date) - issued).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        age = 0.0
    return max(0.0, lifetime - max(0.0, age)) * _USED

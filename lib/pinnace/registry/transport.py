"""One exchange with a registry: which scheme, which redirects, when to try again, errors in words."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from pinnace.errors import RegistryError
from pinnace.registry import retry
from pinnace.registry.connections import (
    certificates,
    is_loopback,
    is_plain_http,
    new_session,
    proxies_for,
    tls_problem,
)
from pinnace.registry_rules import Registry

if TYPE_CHECKING:
    import requests

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 5
#: Bytes of an answer's body that are read to keep its connection.
_SMALL = 16 << 10


@dataclass(frozen=True)
class Timeouts:
    """In seconds: until a connection is accepted, and between two bytes."""

    connect: float = 30.0
    stall: float = 60.0


class Transport:
    """Sends requests to one registry host and follows its redirects to others.

    ``scheme`` overrides what ``rules`` and the host say. ``session`` is a requests session; tests
    give one with adapters of their own. Several threads may use a transport.
    """

    def __init__(
        self,
        host: str,
        *,
        rules: Registry | None = None,
        scheme: str | None = None,
        timeouts: Timeouts | None = None,
        policy: retry.Policy | None = None,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.host = host
        self.rules = rules or Registry()
        self.base = f"{scheme or _scheme(host, self.rules)}://{host}"
        self.timeouts = timeouts or Timeouts()
        self.policy = policy or retry.Policy()
        self._timeout = (self.timeouts.connect, self.timeouts.stall)
        self._session = session or new_session(lambda name: self.rules if name == host else Registry())
        self._sleep = sleep
        #: Whether there has ever been an answer: then a refused connection is one that may pass.
        self._reached = False

    def pause(self, seconds: float) -> None:
        """Wait between two attempts."""
        if seconds > 0:
            (self._sleep or time.sleep)(seconds)

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        form: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer to one request, its body not yet read; any status but a redirect or a passing failure.

        ``url`` may be relative to the registry. ``form`` is sent as the request's body, and follows
        no redirect. Raises RegistryError if there is no answer.
        """
        failures = 0
        while True:
            asked = None
            try:
                response = self._follow(urljoin(self.base, url), dict(headers or {}), method, form)
            except _OtherScheme:
                continue
            except _Broken as error:
                failures += 1
                if failures > self.policy.retries:
                    raise RegistryError(
                        f"registry {self.host} broke the connection {failures} times",
                        context=str(error),
                        hint="try again later",
                        identifier="registry-unreachable",
                    ) from None
            else:
                failures += 1
                asked = retry.retry_after(response.headers.get("Retry-After"), time.time())
                if (
                    response.status_code not in retry.TRANSIENT
                    or failures > self.policy.retries
                    or not self.policy.bears(asked)
                    or retry.is_used_up(response.headers)
                ):
                    return response
                discard(response)
            self.pause(self.policy.delay(failures, asked, random.random()))

    def _follow(
        self, url: str, headers: dict[str, str], method: str, form: Mapping[str, str] | None = None
    ) -> requests.Response:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(url, headers, method, form)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location or form is not None:
                return response
            discard(response)
            target = self._redirect_target(url, location)
            if not same_origin(target, url):
                # Object stores refuse a request with a second kind of authorisation, and the
                # token is none of their business.
                headers.pop("Authorization", None)
            url = target
        raise RegistryError(
            f"registry {self.host} redirects without end",
            hint="tell the registry's administrator",
            identifier="registry-redirect",
        )

    def _redirect_target(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
        except ValueError:
            target = location
        if not is_web_address(target):
            raise RegistryError(
                f"registry {self.host} redirects to {target!r}", identifier="registry-redirect"
            )
        host = urlsplit(target).netloc.rpartition("@")[2]
        downgrade = urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http"
        if downgrade and not self.rules.allows_http_redirect(host):
            raise RegistryError(
                f"registry {self.host} redirects from https to http at {host}",
                hint=f'set http_redirects = ["{host}"] in [registries."{self.host}"] of pinnace.toml '
                "if that is meant",
                identifier="registry-redirect",
            )
        return target

    def _send(
        self, url: str, headers: Mapping[str, str], method: str, form: Mapping[str, str] | None = None
    ) -> requests.Response:
        import requests

        # identity: digests are of the bytes as stored, so nobody may compress them on the way.
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            response = self._session.request(
                method,
                url,
                headers=headers,
                data=form,
                stream=True,
                allow_redirects=False,
                timeout=self._timeout,
                proxies=proxies_for(url),  # type: ignore[arg-type]
            )
        except requests.exceptions.SSLError as error:
            reason = _reason(error)
            if is_plain_http(reason):
                self._fall_back(url)
            raise self._untrusted(url, reason) from None
        except requests.exceptions.ProxyError as error:
            raise RegistryError(
                f"the proxy for {urlsplit(url).netloc} cannot be used",
                context=_reason(error),
                hint="check https_proxy, http_proxy and no_proxy",
                identifier="registry-unreachable",
            ) from None
        except requests.exceptions.ConnectTimeout:
            raise self._unreachable(url, f"no connection within {self._timeout[0]} s") from None
        except requests.exceptions.ReadTimeout:
            raise _Broken(f"no answer within {self._timeout[1]} s") from None
        except requests.exceptions.ConnectionError as error:
            reason = _reason(error)
            if "alert" in reason and url.startswith("https:"):  # TLS 1.3 tells it after the handshake
                raise self._untrusted(url, reason) from None
            if _never_connected(error) and not self._reached:
                if "refused" in reason:
                    self._fall_back(url)
                raise self._unreachable(url, reason) from None
            raise _Broken(reason) from None
        except requests.exceptions.RequestException as error:  # a malformed URL or header
            raise RegistryError(f"cannot ask {urlsplit(url).netloc}: {_reason(error)}") from None
        except (OSError, ValueError) as error:
            raise RegistryError(f"cannot ask {urlsplit(url).netloc}: {error}") from None
        self._reached = True
        return response

    def _fall_back(self, url: str) -> None:
        """Go on with plain http where the rules allow it. Raises _OtherScheme then."""
        if self.rules.http_fallback and self.base.startswith("https:") and same_origin(url, self.base):
            self.base = f"http://{self.host}"
            raise _OtherScheme

    def _untrusted(self, url: str, reason: str) -> RegistryError:
        where = urlsplit(url).netloc.rpartition("@")[2]
        return RegistryError(
            f"no trusted https connection to {where}",
            context=reason,
            hint=tls_problem(reason, where),
            identifier="registry-tls",
        )

    def _unreachable(self, url: str, reason: str) -> RegistryError:
        where = urlsplit(url).netloc.rpartition("@")[2]
        return RegistryError(
            f"cannot connect to {where}",
            context=reason,
            hint="check the registry's name and that this machine reaches it",
            identifier="registry-unreachable",
        )


class _Broken(Exception):
    """A connection that failed in a way that may pass."""


class _OtherScheme(Exception):
    """The base address has changed: ask again there."""


def discard(response: requests.Response) -> None:
    """Be done with an answer; a short body is read, so that its connection can be used again."""
    from urllib3.exceptions import HTTPError

    size = response.headers.get("Content-Length", "")
    if size.isascii() and size.isdigit() and len(size) < 6 and int(size) <= _SMALL:
        with suppress(HTTPError, OSError):
            response.raw.read(_SMALL, decode_content=False)
            if response.raw.read(1, decode_content=False) == b"":
                response.raw.release_conn()
                return
    response.close()


def is_web_address(url: str) -> bool:
    """Whether ``url`` can be asked at all; registries name addresses to go on at."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _scheme(host: str, rules: Registry) -> str:
    if rules.plain_http is not None:
        return "http" if rules.plain_http else "https"
    return "http" if is_loopback(host) and not certificates(host, rules) else "https"


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses have scheme, host and port in common."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _never_connected(error: BaseException) -> bool:
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _reason(error: BaseException) -> str:
    """The innermost cause in words, without addresses of Python objects."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        context = None if error.__suppress_context__ else error.__context__
        inner = (*error.args, getattr(error, "reason", None), error.__cause__, context)
        error = next((part for part in inner if isinstance(part, BaseException)), error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rpartition(": ")[2] or type(error).__name__

"""HTTP for registries: which scheme, which redirects, when to try again, and errors in words."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pinnace.errors import RegistryError

if TYPE_CHECKING:
    import requests

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 5
_TRANSIENT = frozenset((429, 500, 502, 503, 504))
#: For requests: go there directly, whatever the environment says.
_NO_PROXIES: dict[str, Any] = {"http": None, "https": None, "all": None}
#: Attempts at one request, and the longest wait between two that a registry may ask for (seconds).
ATTEMPTS = 4
_MAX_WAIT = 30.0


@dataclass(frozen=True)
class Timeouts:
    """In seconds: until a connection is accepted, and between two bytes."""

    connect: float = 30.0
    stall: float = 60.0


class Transport:
    """Sends requests to one registry host and follows its redirects to others.

    ``session`` is a requests session; tests give one with adapters of their own.
    """

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool = False,
        ca: str | None = None,
        timeouts: Timeouts | None = None,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self.base = f"{'http' if plain_http or (is_loopback(host) and not ca) else 'https'}://{host}"
        timeouts = timeouts or Timeouts()
        self._timeout = (timeouts.connect, timeouts.stall)
        self._ca = ca
        self._session = session or new_session()
        self._sleep = sleep

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
        url = urljoin(self.base, url)
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._follow(url, dict(headers or {}), method, form)
            except _Broken as error:
                if attempt >= ATTEMPTS:
                    raise RegistryError(
                        f"registry {self.host} broke the connection {attempt} times",
                        context=str(error),
                        hint="try again later",
                        identifier="registry-unreachable",
                    ) from None
                self._sleep(2.0 ** (attempt - 2))
                continue
            if response.status_code not in _TRANSIENT or attempt >= ATTEMPTS:
                return response
            response.close()
            self._sleep(_wait(response, attempt))

    def _follow(
        self, url: str, headers: dict[str, str], method: str, form: Mapping[str, str] | None = None
    ) -> requests.Response:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(url, headers, method, form)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location or form is not None:
                return response
            response.close()
            target = self._redirect_target(url, location)
            if _origin(target) != _origin(url):
                # Object stores refuse a request with a second kind of authorisation, and the
                # token is none of their business.
                headers.pop("Authorization", None)
            url = target
        raise RegistryError(f"registry {self.host} redirects without end", identifier="registry-redirect")

    def _redirect_target(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
        except ValueError:
            target = location
        if not is_web_address(target):
            raise RegistryError(
                f"registry {self.host} redirects to {target!r}", identifier="registry-redirect"
            )
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
            raise RegistryError(
                f"registry {self.host} redirects from https to http at {urlsplit(target).netloc}",
                hint="tell the registry's administrator",
                identifier="registry-redirect",
            )
        return target

    def _send(
        self, url: str, headers: Mapping[str, str], method: str, form: Mapping[str, str] | None = None
    ) -> requests.Response:
        import requests

        # identity: digests are of the bytes as stored, so nobody may compress them on the way.
        headers = {"Accept-Encoding": "identity", **headers}
        verify = self._ca if self._ca and _origin(url) == _origin(self.base) else True
        # What is trusted without https because it stays on this machine must not go to a proxy.
        proxies = _NO_PROXIES if is_loopback(urlsplit(url).netloc.rpartition("@")[2]) else None
        try:
            return self._session.request(
                method,
                url,
                headers=headers,
                data=form,
                stream=True,
                allow_redirects=False,
                timeout=self._timeout,
                verify=verify,
                proxies=proxies,
            )
        except requests.exceptions.SSLError as error:
            raise RegistryError(
                f"no trusted https connection to {urlsplit(url).netloc}",
                context=_reason(error),
                hint=f'set ca or plain_http in [registries."{self.host}"] of pinnace.toml if that is meant',
                identifier="registry-tls",
            ) from None
        except requests.exceptions.ConnectTimeout:
            raise self._unreachable(url, f"no connection within {self._timeout[0]} s") from None
        except requests.exceptions.ReadTimeout:
            raise _Broken(f"no answer within {self._timeout[1]} s") from None
        except requests.exceptions.ConnectionError as error:
            reason = _reason(error)
            if _never_connected(error):
                raise self._unreachable(url, reason) from None
            raise _Broken(reason) from None
        except (OSError, ValueError) as error:  # its own checks: a CA file that is missing, a malformed URL
            raise RegistryError(f"cannot ask {urlsplit(url).netloc}: {error}") from None

    def _unreachable(self, url: str, reason: str) -> RegistryError:
        where = urlsplit(url).netloc
        return RegistryError(
            f"cannot connect to {where}",
            context=reason,
            hint="check the registry's name and that this machine reaches it",
            identifier="registry-unreachable",
        )


class _Broken(Exception):
    """A connection that failed in a way that may pass."""


def new_session() -> requests.Session:
    """A session that takes proxies from the environment, but no credentials from ~/.netrc."""
    import requests

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            """None always: redirects are ours, and requests would read their bodies without a limit."""

    session = Session()
    session.auth = lambda request: request
    session.headers["User-Agent"] = "pinnace"
    return session


def is_loopback(host: str) -> bool:
    """Whether ``host`` (``name`` or ``name:port``) is this machine itself."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_web_address(url: str) -> bool:
    """Whether ``url`` can be asked at all; registries name addresses to go on at."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses have scheme, host and port in common."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _wait(response: requests.Response, attempt: int) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _MAX_WAIT) if asked.isascii() and asked.isdigit() else 2.0 ** (attempt - 2)


def _never_connected(error: BaseException) -> bool:
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _reason(error: BaseException) -> str:
    """The innermost cause in words, without addresses of Python objects."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__)
        error = next((part for part in inner if isinstance(part, BaseException)), error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rpartition(": ")[2] or type(error).__name__

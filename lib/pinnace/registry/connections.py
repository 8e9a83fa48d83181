"""Connections: TLS rules of each host, proxies, keep-alive, how many at a time."""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pinnace.errors import RegistryError
from pinnace.registry_rules import Registry

if TYPE_CHECKING:
    import requests

#: Where Docker and podman look for certificates of registries, in the directory HOST:PORT.
CERTS_D = ("/etc/containers/certs.d", "/etc/docker/certs.d")
#: Connections to one host at the same time.
CONNECTIONS = 8


@dataclass(frozen=True)
class Certificates:
    """Files: authorities to trust besides the system's, and pairs of certificate and key to show."""

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.authorities or self.pairs)


def certificates(host: str, rules: Registry, directories: tuple[str, ...] | None = None) -> Certificates:
    """What ``rules`` say of ``host``, else what the first certs.d directory for it holds.

    The layout is Docker's: ``*.crt`` are authorities, ``NAME.cert`` and ``NAME.key`` a pair.
    """
    if rules.ca or rules.client_certificate:
        pair = (rules.client_certificate, rules.client_key or rules.client_certificate)
        return Certificates(
            (rules.ca,) if rules.ca else (),
            ((pair[0], pair[1]),) if pair[0] and pair[1] else (),
        )
    for directory in directories if directories is not None else _directories():
        place = os.path.join(directory, host)
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        pairs = []
        for name in names:
            if name.endswith(".cert"):
                key = name[: -len("cert")] + "key"
                if key not in names:
                    raise RegistryError(
                        f"there is no {key} beside {os.path.join(place, name)}",
                        hint="put the certificate's key there",
                        identifier="registry-tls",
                    )
                pairs.append((os.path.join(place, name), os.path.join(place, key)))
        found = tuple(os.path.join(place, name) for name in names if name.endswith(".crt"))
        return Certificates(found, tuple(pairs))
    return Certificates()


def _directories() -> tuple[str, ...]:
    own = os.path.join(os.path.expanduser("~"), ".config", "containers", "certs.d")
    return (own, *CERTS_D) if os.path.isabs(own) else CERTS_D


def tls_context(shown: Certificates) -> ssl.SSLContext:
    """The system's authorities (or those of SSL_CERT_FILE and SSL_CERT_DIR) and those of ``shown``.

    Raises RegistryError naming the file that cannot be used.
    """
    import urllib3

    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(variable)
        if path and not any(map(os.path.exists, path.split(":"))):
            raise _unusable(path, f"which {variable} names, is not there")
    context = ssl.create_default_context()
    # Python 3.13 refuses authorities without key usage, which those made by hand seldom have.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not hasattr(urllib3.HTTPResponse, "read1"):  # urllib3 1
        # It compares names itself then, as it has to: it tells contexts no host that is an address.
        context.check_hostname = False
    defaults = ssl.get_default_verify_paths()
    if defaults.cafile is None and defaults.capath is None:  # a Python that was built elsewhere
        import certifi

        context.load_verify_locations(certifi.where())
    for path in shown.authorities:
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(path)
        except (OSError, ValueError) as error:
            raise _unusable(path, getattr(error, "strerror", None) or str(error)) from None
    for certificate, key in shown.pairs:
        try:
            # An encrypted key would be asked for on the terminal.
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError, RegistryError) as error:
            raise _unusable(certificate, getattr(error, "strerror", None) or str(error)) from None
    return context


def _no_password() -> str:
    raise RegistryError("its key is encrypted")


def _unusable(path: str, why: str) -> RegistryError:
    return RegistryError(
        f"certificates of {path} cannot be used",
        context=why,
        hint="a file in PEM format is expected",
        identifier="registry-tls",
    )


def new_session(
    rules_for: Callable[[str], Registry] | None = None, connections: int = CONNECTIONS
) -> requests.Session:
    """A session that keeps ``connections`` to a host at most, and no cookies.

    It takes proxies from the environment, but no credentials from ~/.netrc. ``rules_for`` gives
    the rules of each host, also of those that a registry redirects to.
    """
    import requests
    from requests.adapters import HTTPAdapter

    from pinnace.registry import pace

    class Adapter(HTTPAdapter):
        def __init__(self, context: ssl.SSLContext | None) -> None:
            self._context = context
            # A full pool makes threads wait.
            super().__init__(pool_connections=32, pool_maxsize=connections, pool_block=True)

        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, ssl_context=self._context, **options)
            self.poolmanager.pool_classes_by_scheme = pace.POOLS

        def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(proxy, ssl_context=self._context, **options)
            manager.pool_classes_by_scheme = pace.POOLS
            return manager

        def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
            """The context alone says what is trusted; requests would add certifi's authorities."""
            conn.cert_reqs, conn.ca_certs = "CERT_REQUIRED", None

    class Session(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            self._lock = threading.Lock()
            self._adapters: dict[Certificates, Adapter] = {}
            self._default = Adapter(None)
            self.mount("http://", self._default)
            self.mount("https://", self._default)

        def get_redirect_target(self, resp: requests.Response) -> None:
            """None always: redirects are ours, and requests would read their bodies without a limit."""

        def get_adapter(self, url: str | bytes) -> Any:
            text = url if isinstance(url, str) else url.decode()
            adapter = super().get_adapter(text)
            if adapter is not self._default or not text.lower().startswith("https:"):
                return adapter
            host = urlsplit(text).netloc.rpartition("@")[2]
            shown = certificates(host, rules_for(host) if rules_for else Registry())
            with self._lock:
                if shown not in self._adapters:
                    self._adapters[shown] = Adapter(tls_context(shown))
                return self._adapters[shown]

    session = Session()
    session.auth = lambda request: request
    session.headers["User-Agent"] = "pinnace"
    # Load balancers set cookies; nothing that one host says is another's business.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def tls_problem(reason: str, host: str) -> str:
    """What to do about a TLS handshake that failed for ``reason``."""
    table = f'[registries."{host}"] of pinnace.toml'
    lower = reason.lower()
    if is_plain_http(reason):
        return f"it speaks plain http: set plain_http = true in {table} if that is meant"
    if any(
        sign in lower for sign in ("certificate required", "handshake failure", "bad certificate", "eof occ")
    ):
        return f"it may want a client certificate: set client_certificate and client_key in {table}"
    if "expired" in lower or "not yet valid" in lower:
        return "renew the registry's certificate, or check this machine's clock"
    if any(sign in lower for sign in ("hostname mismatch", "ip address mismatch", "doesn't match")):
        return "use the name that its certificate is for"
    return f"set ca in {table}, or put its authority into /etc/docker/certs.d/{host}/ca.crt"


def is_plain_http(reason: str) -> bool:
    """Whether a TLS handshake failed as it does with a server that speaks no TLS."""
    lower = reason.lower()
    signs = ("wrong version number", "record layer failure", "packet length too long", "unknown protocol")
    return any(sign in lower for sign in signs)


def is_loopback(host: str) -> bool:
    """Whether ``host`` (``name`` or ``name:port``) is this machine itself."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def proxies_for(url: str) -> Mapping[str, Any] | None:
    """For requests: None means what the environment says.

    What is trusted without https because it stays on this machine must not go to a proxy.
    """
    if is_loopback(urlsplit(url).netloc.rpartition("@")[2]):
        return {"http": None, "https": None, "all": None}
    return None

"""One name for one registry, however files and people spell it.

Docker writes Docker Hub as ``https://index.docker.io/v1/`` and everything else as a host; older
files hold URLs (docker/cli, ``credentials.ConvertToHostname``). podman may add a namespace:
``host/namespace/repository`` (containers-auth.json(5)).
"""

from __future__ import annotations

HUB = "docker.io"
#: What Docker calls Docker Hub in its files and to its helpers.
HUB_KEY = "https://index.docker.io/v1/"
#: Where Docker Hub gives its tokens.
HUB_REALM = "auth.docker.io"
_HUB_NAMES = frozenset((HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"))


def canonical(host: str) -> str:
    """``host`` (``name`` or ``name:port``) in the one spelling that is compared."""
    host = host.lower()
    return HUB if host in _HUB_NAMES else host


def of_key(key: str) -> str:
    """The canonical ``host`` or ``host/namespace`` that a key of a credentials file means."""
    scheme, separator, rest = key.partition("://")
    if separator:
        rest = rest.partition("/")[0]
    rest = rest if separator else scheme
    for suffix in ("/", "/v1", "/v2"):
        rest = rest.removesuffix(suffix)
    host, separator, path = rest.partition("/")
    return canonical(host) + separator + path


def scopes(host: str, repository: str) -> list[str]:
    """The keys that hold for a repository, the longest first."""
    parts = [part for part in repository.split("/") if part]
    return ["/".join([canonical(host), *parts[:count]]) for count in range(len(parts), -1, -1)]


def stored(host: str) -> str:
    """The key under which Docker keeps ``host``, in files and with helpers."""
    return HUB_KEY if canonical(host) == HUB else host.lower()


def without_port(host: str) -> str:
    """``host`` for files that know no ports."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return (name or host).lower()

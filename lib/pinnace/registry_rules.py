"""How one registry is reached: the keys of ``[registries."HOST"]`` in pinnace.toml.

On the launch path: standard library alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from pinnace.tuples import NamedTuple

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import Any

#: An address with an optional scheme and path, without a user, query or fragment.
_ADDRESS = re.compile(r"(https?://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[a-z0-9._/-]*)?")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class Registry(NamedTuple):
    """The rules for one host (``name`` or ``name:port``).

    ``plain_http`` None means what suits the host: http for this machine itself, else https.
    ``http_redirects`` is true for any host, or holds the hosts to which https may be left.
    ``mirrors`` are asked in their order before the registry itself.
    """

    plain_http: bool | None = None
    http_fallback: bool = False
    http_redirects: bool | tuple[str, ...] = False
    mirrors: tuple[str, ...] = ()
    ca: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    def allows_http_redirect(self, host: str) -> bool:
        """Whether an answer over https may send us to plain http at ``host``."""
        if isinstance(self.http_redirects, bool):
            return self.http_redirects
        return host in self.http_redirects or host.rpartition(":")[0] in self.http_redirects


def _path(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a string is expected")
    path = os.path.expanduser(value)
    if not os.path.isabs(path):
        raise ValueError("an absolute path is expected")
    return path


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def _strings(value: Any, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and pattern.fullmatch(v) for v in value):
        raise ValueError(f"a list of {what} is expected")
    return tuple(value)


def _mirrors(value: Any) -> tuple[str, ...]:
    return tuple(
        mirror.rstrip("/")
        for mirror in _strings(value, _ADDRESS, "addresses such as https://cache.example/prefix")
    )


def _hosts_or_all(value: Any) -> bool | tuple[str, ...]:
    if isinstance(value, bool):
        return value
    return _strings(value, _HOST, "hosts, or true,")


#: The keys and how their values are read; each raises ValueError saying what is expected.
KEYS: dict[str, Callable[[Any], Any]] = {
    "plain_http": _boolean,
    "http_fallback": _boolean,
    "http_redirects": _hosts_or_all,
    "mirrors": _mirrors,
    "ca": _path,
    "client_certificate": _path,
    "client_key": _path,
}

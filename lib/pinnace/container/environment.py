"""Which variables a container's processes get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Variables that speak of the host's locales, which the image may not have (pyxis drops them too).
HOST_LOCALE = ("LANG", "LANGUAGE", "LC_ALL")


def of_image(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """The variables of an OCI image configuration (image-spec, config.md, ``Env``)."""
    entries = config.get("Env")
    pairs = []
    for entry in entries if isinstance(entries, list) else ():
        name, separator, value = str(entry).partition("=")
        if name and separator and "\0" not in entry:
            pairs.append((name, value))
    return pairs


def requested(items: Iterable[str], host: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables of ``-e NAME=VALUE`` options; ``NAME`` alone passes the host's value on."""
    pairs = []
    for item in items:
        name, separator, value = item.partition("=")
        if separator:
            pairs.append((name, value))
        elif name in host:
            pairs.append((name, host[name]))
    return pairs

"""Who the user is, and how a container names its ids."""

from __future__ import annotations

import grp
import os
import pwd
import time

from pinnace.basis import Basis
from pinnace.tuples import NamedTuple

OVERFLOW_ID = 65534  # /proc/sys/kernel/overflowuid: ids outside a namespace's map

#: Where names are looked up (nsswitch.conf(5)).
_DATABASES = ("/etc/nsswitch.conf", "/etc/passwd", "/etc/group")
#: Seconds for which names are taken to be the same: they may come from a directory service.
_TRUSTED = 600


class Identity(NamedTuple):
    """The caller, as the host's databases know him."""

    uid: int
    gid: int
    name: str
    group: str
    home: str
    shell: str
    gecos: str = ""
    supplementary: tuple[tuple[str, int], ...] = ()


def current(basis: Basis | None = None) -> Identity:
    """The identity of this process. An id without an entry gets a name made from its number."""
    if basis is not None:
        for file in _DATABASES:
            basis.file(file)
        basis.expires(time.time() + _TRUSTED)
    uid, gid = os.geteuid(), os.getegid()
    supplementary = tuple((_group_name(other), other) for other in os.getgroups() if other != gid)
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        home = os.environ.get("HOME", "/")
        return Identity(uid, gid, f"user{uid}", _group_name(gid), home, "/bin/sh", "", supplementary)
    return Identity(
        uid,
        gid,
        entry.pw_name,
        _group_name(gid),
        entry.pw_dir or "/",
        entry.pw_shell or "/bin/sh",
        entry.pw_gecos,
        supplementary,
    )


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"


def home_in_container(identity: Identity, remap_root: bool) -> str:
    """The home directory that the container's passwd names for the user."""
    return "/root" if remap_root else identity.home


def passwd(identity: Identity) -> str:
    """Lines for the top of the container's passwd: the first match of a name or id wins."""
    lines = [
        "root:x:0:0:root:/root:/bin/sh",
        f"nobody:x:{OVERFLOW_ID}:{OVERFLOW_ID}:nobody:/:/usr/sbin/nologin",
    ]
    if identity.uid not in (0, OVERFLOW_ID):
        shell = "/bin/bash" if identity.shell.endswith("/bash") else "/bin/sh"
        lines.append(
            f"{identity.name}:x:{identity.uid}:{identity.gid}:{identity.gecos}:{identity.home}:{shell}"
        )
    return "".join(line + "\n" for line in lines)


def group(identity: Identity) -> str:
    """Lines for the top of the container's group file, supplementary groups included.

    The kernel keeps those groups for access to files but shows them as the overflow id, since a
    namespace with a single id cannot map them (user_namespaces(7)).
    """
    named = {0: "root", OVERFLOW_ID: "nogroup"}
    for name, gid in ((identity.group, identity.gid), *identity.supplementary):
        named.setdefault(gid, name)
    return "".join(f"{name}:x:{gid}:\n" for gid, name in named.items())

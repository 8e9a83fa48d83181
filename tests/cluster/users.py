"""The people of the cluster: known inside its hosts alone, never in the machine's own /etc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    """An ordinary user, a private group of the same number and the groups joined besides."""

    name: str
    uid: int
    groups: tuple[tuple[str, int], ...] = ()

    @property
    def gid(self) -> int:
        return self.uid

    @property
    def gids(self) -> list[int]:
        return [self.gid, *(number for _, number in self.groups)]


ADA = User("ada", 20001, (("crew", 20100),))
BEN = User("ben", 20002)
USERS = (ADA, BEN)


def make_homes(directory: Path) -> None:
    """Create everybody's home below ``directory``."""
    import os

    directory.mkdir()
    for user in USERS:
        home = directory / user.name
        home.mkdir(mode=0o700)
        os.chown(home, user.uid, user.gid)


def write_databases(directory: Path, homes: Path) -> None:
    """Write passwd and group: the machine's, for its system users, and ours."""
    ours = {user.name for user in USERS} | {name for user in USERS for name, _ in user.groups}

    def others(database: str) -> list[str]:
        lines = Path("/etc", database).read_text().splitlines()
        return [line for line in lines if line.split(":", 1)[0] not in ours]

    passwd, group = others("passwd"), others("group")
    members: dict[tuple[str, int], list[str]] = {}
    for user in USERS:
        passwd.append(f"{user.name}:x:{user.uid}:{user.gid}::{homes / user.name}:/bin/sh")
        group.append(f"{user.name}:x:{user.gid}:")
        for entry in user.groups:
            members.setdefault(entry, []).append(user.name)
    group += [f"{name}:x:{number}:{','.join(names)}" for (name, number), names in members.items()]
    (directory / "passwd").write_text("\n".join(passwd) + "\n")
    (directory / "group").write_text("\n".join(group) + "\n")

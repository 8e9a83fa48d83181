"""Where everything is measured: a cluster with Pinnace installed, a registry and an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Measurement
from cluster.cluster import Cluster
from cluster.registry import Registry
from cluster.users import ADA, User

_LONG = 3600.0
_HERE = Path(__file__).parent


class Site:
    """The login host of ``cluster``, as its ordinary user sees it."""

    def __init__(self, cluster: Cluster, registry: Registry, *, large: bool = False) -> None:
        self.cluster = cluster
        #: Whether to measure what takes long as well.
        self.large = large
        self.registry = registry
        self.home = cluster.home()
        self.python = str(cluster.prefix / "venv" / "bin" / "python3")
        self.library = str(cluster.prefix / "lib" / "pinnace")
        self.executor = str(cluster.prefix / "libexec" / "pinnace" / "pinnace-exec")
        # The source tree may lie where the user may not look.
        self._scripts = cluster.directory / "bench"
        self._scripts.mkdir(exist_ok=True)
        # crun and podman refuse a machine with control groups of both versions.
        cluster.login.run(["umount", "/sys/fs/cgroup/unified"], check=False)

    def script(self, name: str) -> str:
        """A file of this package, where the user can read it."""
        target = self._scripts / name
        shutil.copyfile(_HERE / name, target)
        return str(target)

    def run(self, *command: str, **options: Any) -> str:
        """Run a command as the user; gives its output. Raises RuntimeError if it fails."""
        options.setdefault("timeout", _LONG)
        return self.cluster.run(command, check=True, **options).stdout

    def time(
        self,
        subjects: Mapping[str, Mapping[str, Any]],
        rounds: int,
        *,
        within: Sequence[str] = (),
        warm_up: bool = True,
        user: User | None = ADA,
    ) -> dict[str, Measurement]:
        """Time commands in turn (see timer.py), within another command such as ``salloc``.

        They are the commands of ``user`` (None: root).
        """
        job = json.dumps({"rounds": rounds, "subjects": subjects, "warm_up": warm_up})
        timer = [self.python, "-IS", self.script("timer.py")]
        answer = json.loads(self.run(*within, *timer, input=job, user=user))
        return {name: Measurement.from_data(name, answer[name]) for name in subjects}

    def process(self, name: str) -> int:
        """The number of the only process of that name."""
        return int(self.run("pgrep", "-x", name))

    def squashfs_of(self, reference: str) -> str:
        """The path of a pulled image's file."""
        path: str = json.loads(self.run("pinnace", "inspect", reference))["path"]
        return path

    def directory(self, name: str) -> Path:
        """An empty directory of the user's."""
        path = self.home / name
        if path.exists():
            shutil.rmtree(path)
        path.mkdir()
        os.chown(path, ADA.uid, ADA.gid)
        return path

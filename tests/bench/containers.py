"""Ways to start a container of one image: Pinnace's own, and other tools beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.site import Site
from cluster.users import ADA

BUBBLEWRAP = "bubblewrap, tree"
CH_RUN = "ch-run, squashfs file"
CH_RUN_TREE = "ch-run, tree"
BACKENDS = ("squashfuse", "unpack")
OVERLAYS = ("kernel", "fuse-overlayfs")
THROUGH_PYTHON = "through Python"

_PODMAN = ("podman", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=none", "--rootfs")


@dataclass(frozen=True)
class Way:
    """The words before a command that is to run in a container, and variables that go with them."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def subject(self, *command: str, **more: Any) -> dict[str, Any]:
        """For the timer."""
        return {"command": [*self.words, *command], "environment": dict(self.environment), **more}


def settings(site: Site, backend: str, overlay: str = "kernel", *, cached: bool = True) -> dict[str, str]:
    """Variables that make Pinnace go one way. ``cached``: it may do so by a plan that it has kept."""
    return {
        "PINNACE_BACKEND": backend,
        "PINNACE_OVERLAY": overlay,
        "PINNACE_PLAN_CACHE": "true" if cached else "false",
        # Plans of one command line take each other's place, whatever the variables are.
        "XDG_CACHE_HOME": str(site.home / f"cache-{backend}-{overlay}"),
        "PINNACE_STORE": str(site.home / ".cache" / "pinnace"),
    }


def name_of(backend: str, overlay: str = "kernel", *, cached: bool = True) -> str:
    """What a way of Pinnace is called in tables. The usual is not mentioned."""
    words = ["pinnace", backend]
    words += [overlay] if overlay != "kernel" else []
    return ", ".join(words if cached else [*words, THROUGH_PYTHON])


class Image:
    """An image in every form: in the user's store, as a squashfs file and as a tree."""

    def __init__(self, site: Site, layout: Path, name: str) -> None:
        self._site = site
        self.reference = site.registry.push(layout, name)
        site.run("pinnace", "pull", "-q", self.reference)
        self.squashfs = site.squashfs_of(self.reference)
        self.tree = str(site.directory("trees") / "tree")
        site.run("unsquashfs", "-quiet", "-no-progress", "-dest", self.tree, self.squashfs)

    def pinnace(self) -> dict[str, Way]:
        """Every backend with every overlay."""
        return {
            name_of(backend, overlay, cached=cached): Way(
                ("pinnace", "run", self.reference), settings(self._site, backend, overlay, cached=cached)
            )
            for cached in (True, False)
            for backend in BACKENDS
            for overlay in OVERLAYS
        }

    def peers(self) -> dict[str, Way]:
        """Small tools like ours, on the same file and on a tree of it."""
        mountpoint = str(self._site.directory("mountpoint"))
        bubblewrap = ("bwrap", "--unshare-user", "--bind", self.tree, "/", "--dev", "/dev", "--proc", "/proc")
        return {
            BUBBLEWRAP: Way(bubblewrap),
            CH_RUN_TREE: Way(("ch-run", self.tree, "--")),
            CH_RUN: Way(("ch-run", "--mount", mountpoint, self.squashfs, "--")),
        }

    def side_by_side(self) -> dict[str, Way]:
        """What is compared once containers run: the bare tree first, then every backend and overlay."""
        peers, own = self.peers(), self.pinnace()
        names = [name_of(backend, overlay) for backend in BACKENDS for overlay in OVERLAYS]
        return {BUBBLEWRAP: peers[BUBBLEWRAP], CH_RUN: peers[CH_RUN], **{name: own[name] for name in names}}

    def engines(self, *command: str) -> dict[str, list[str]]:
        """What runs ``command`` under container engines, which need a moment."""
        bundle = self._bundle(*command)
        return {
            "crun, tree": ["crun", "--root", f"{bundle}/state", "run", "--bundle", bundle, "bench"],
            "podman, tree": [*_PODMAN, self.tree, *command],
        }

    def _bundle(self, *command: str) -> str:
        """A bundle for crun with the user's own id alone, as he has no others."""
        directory = self._site.directory("bundle")
        try:
            self._site.run("crun", "spec", "--rootless", cwd=str(directory))
        except (RuntimeError, OSError):
            return str(directory)  # the attempt to run it will say why
        configuration = directory / "config.json"
        document = json.loads(configuration.read_text())
        document["root"]["path"] = self.tree
        document["process"].update(terminal=False, args=command)
        for ids, own in (("uidMappings", ADA.uid), ("gidMappings", ADA.gid)):
            document["linux"][ids] = [{"containerID": 0, "hostID": own, "size": 1}]
        configuration.write_text(json.dumps(document))
        return str(directory)

"""What many containers of one image that are there at once take of a node's memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import layouts
from bench.containers import Image, Way
from bench.measure import Series
from bench.report import Report, Table, summary
from bench.site import Site
from cluster.cluster import wait_until
from cluster.users import ADA

_CONTAINERS = 32
_PROGRAM = "python3"
#: Loads some libraries, says so, and stays.
_SCRIPT = "import numpy, sys; print(flush=True); sys.stdin.read()"
_CACHES = Path("/proc/sys/vm/drop_caches")
_MEBIBYTE = 1 << 20
#: Of all processes: with their part of what is shared (PSS), what is theirs alone (USS); the kernel's.
_COLUMNS = (
    "programs, PSS",
    "programs, USS",
    "servers",
    "servers, PSS",
    "servers, USS",
    "page cache",
    "kernel",
)


def measure(site: Site, rounds: int) -> Report:
    image = Image(site, layouts.with_pytorch()[0], "pytorch:1")
    ways = image.side_by_side()
    values: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            try:
                found = _once(site, way)
            except RuntimeError as error:
                failed[name] = str(error)
                continue
            for column, value in found.items():
                values.setdefault(f"{name}: {column}", []).append(value)
    measured = {name: Series(tuple(entries)) for name, entries in values.items()}
    table = _table(list(ways), measured, failed, rounds)
    return Report([table], measured)


def _once(site: Site, way: Way) -> dict[str, float]:
    """Values by column. Raises RuntimeError if a container does not start."""
    site.run(*way.words, "true", env=way.environment)  # what is made once has been made
    with _Group() as group, ExitStack() as stack:
        # What others have read would not be counted.
        os.sync()
        _CACHES.write_text("3")
        others = set(site.cluster.node_processes(site.cluster.login))
        for _ in range(_CONTAINERS):
            stack.enter_context(_container(site, way, group))
        sums = {**dict.fromkeys(_COLUMNS, 0.0), **group.kernel()}
        for process, words in site.cluster.node_processes(site.cluster.login).items():
            if process in others:
                continue
            kind = "programs" if words.split(" ")[0] == _PROGRAM else "servers"
            sizes = _sizes(process)
            sums["servers"] += kind == "servers"
            for name in ("PSS", "USS"):
                sums[f"{kind}, {name}"] += sizes[name]
        return sums


class _Group:
    """A control group of its own: what is in it has its page cache and kernel memory counted."""

    def __init__(self) -> None:
        first = Path("/sys/fs/cgroup/memory")  # version 1 has a hierarchy for memory
        self._first = first.is_dir()
        self._path = (first if self._first else first.parent) / f"bench-{os.getpid()}"

    def __enter__(self) -> _Group:
        self._path.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        wait_until(self._removed, what="the end of all containers")

    def _removed(self) -> bool:
        try:
            self._path.rmdir()
        except OSError:
            return False
        return True

    def entering(self) -> list[str]:
        """What runs a command of root's in it."""
        return ["sh", "-c", f'echo 0 > {self._path}/cgroup.procs && exec "$@"', "sh"]

    def kernel(self) -> dict[str, float]:
        """Bytes of page cache, and of what the kernel itself has for what is in it."""
        lines = (self._path / "memory.stat").read_text().splitlines()
        values = {name: float(value) for name, value in (line.split() for line in lines)}
        if self._first:
            used = float((self._path / "memory.kmem.usage_in_bytes").read_text())
            return {"page cache": values["cache"], "kernel": used}
        return {"page cache": values["file"], "kernel": values["kernel"]}


@contextmanager
def _container(site: Site, way: Way, group: _Group) -> Iterator[None]:
    """A container whose program has loaded what it needs."""
    groups = ",".join(map(str, ADA.gids))
    as_user = ["setpriv", f"--reuid={ADA.uid}", f"--regid={ADA.gid}", f"--groups={groups}"]
    process = site.cluster.popen(
        [*group.entering(), *as_user, *way.words, _PROGRAM, "-I", "-c", _SCRIPT],
        user=None,
        env={**site.cluster.environment(ADA), **way.environment},
        cwd=site.home,
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    ready = process.stdout.readline() == "\n"
    try:
        if ready:
            yield
    finally:
        _, messages = process.communicate("")
    if not ready:
        raise RuntimeError(messages.strip().rpartition("\n")[2])


def _sizes(process: int) -> dict[str, int]:
    """Bytes of a process: its share (PSS), and what it has alone (USS)."""
    fields = _fields(Path(f"/proc/{process}/smaps_rollup").read_text())
    return {"PSS": fields["Pss"], "USS": fields["Private_Clean"] + fields["Private_Dirty"]}


def _fields(text: str) -> dict[str, int]:
    """Bytes by name, from the kernel's lines of ``NAME: NUMBER kB``."""
    lines = [line.split() for line in text.splitlines()]
    return {words[0][:-1]: int(words[1]) << 10 for words in lines if words[-1] == "kB" and len(words) == 3}


def _table(names: list[str], measured: dict[str, Series], failed: dict[str, str], rounds: int) -> Table:
    table = Table(f"Memory of {_CONTAINERS} containers: MiB, {rounds} rounds", ["container", *_COLUMNS])
    for name in names:
        if name in failed:
            table.add(name, f"not here: {failed[name]}")
        else:
            table.add(name, *(_cell(column, measured[f"{name}: {column}"]) for column in _COLUMNS))
    table.notes.append(
        "each container's program has imported numpy; sums of all, median ± interquartile range; programs: "
        "the commands; servers: what else runs for a container (squashfuse, fuse-overlayfs, keepers), first "
        "their number; page cache and kernel: what the kernel has for all of them, files in memory among it"
    )
    return table


def _cell(column: str, series: Series) -> str:
    median, _, _, spread = summary(series)
    if column == "servers":
        return f"{median:.0f}"
    return f"{median / _MEBIBYTE:.0f} ±{spread / _MEBIBYTE:.0f}"

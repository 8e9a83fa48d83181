"""Commands that write to a store, or from it, killed at random moments and without room for what they write.

No object is ever wrong and a user's file stays whole; the same command then does what it does
undisturbed, and nothing is left over.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import oci
from integration import sound
from integration.registry import run
from integration.trees import directory, entry, layer
from pinnace.store import Store
from pinnace.store.verification import Finding, verify
from torture import processes
from torture.processes import finish
from torture.rounds import seeded

#: How many commands of each kind are killed, and how many have too little room.
KILLS, DISKS = 50, 10
#: Bytes of a disk that holds a store and what any command makes.
DISK = 64 << 20
TOOL, KEPT = "lab/tool:1", "lab/kept:1"
_RANDOM = random.Random(5)
#: So large that a process of its own converts it.
_SHARED = layer(
    [directory("./"), *(entry(f"f{number}", content=_RANDOM.randbytes(700_000)) for number in range(8))]
)
_OWN = {name: layer([entry("own", content=_RANDOM.randbytes(1 << 20))]) for name in (TOOL, KEPT)}


def nothing(store: Path) -> None:
    shutil.rmtree(store)


def layers(store: Path) -> None:
    for part in ("images", "references", "pins"):
        shutil.rmtree(store / part)


def everything(store: Path) -> None:
    pass


def damage(store: Path) -> None:
    """An image, and a layer of the other, are not what was written."""
    images = {image.reference: image for image in Store(str(store)).images()}
    tool, kept = (images[f"docker.io/{name}"] for name in (TOOL, KEPT))
    for path in (tool.path, Store(str(store)).layer_path(kept.layers[-1])):
        with Path(path).open("r+b") as file:
            file.seek(3000)
            file.write(b"something else")


@dataclass(frozen=True)
class Operation:
    """A command and what the store has before: images, layers alone, nothing, or damage.

    ``{files}`` is where the files lie that are imported, ``{base}`` where the store is and ``out``,
    which has files of the names of those that are exported.
    """

    command: str
    before: Callable[[Path], None]


OPERATIONS = {
    "import": [
        Operation(f"pull -q --name {TOOL} oci:{{files}}/tool", nothing),
        Operation("store import -q {files}/both.tar", nothing),
    ],
    "splice": [Operation(f"pull -q --name {TOOL} oci:{{files}}/tool", layers)],
    "gc": [Operation("store gc -q --max-age 0", everything)],
    "export": [
        Operation(f"store export -f {TOOL} {{base}}/out/x.sqsh", everything),
        Operation(f"store export -f {TOOL} {KEPT} {{base}}/out/x.tar", everything),
    ],
    "repair": [Operation("store repair", damage)],
}
KINDS = pytest.mark.parametrize("kind", OPERATIONS)


@dataclass(frozen=True)
class State:
    """Digests of a store's objects and of the files beside it, and what is found wrong."""

    objects: dict[str, str]
    files: dict[str, str]
    findings: list[Finding]

    @classmethod
    def of(cls, base: Path) -> State:
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (base / "out").iterdir()
        }
        return cls(sound.objects(base / "store"), files, list(verify(Store(str(base / "store")))))


@dataclass(frozen=True)
class Run:
    """A command that nothing disturbs: what was there and what is, its seconds, steps and bytes on disk."""

    before: State
    after: State
    seconds: float
    steps: int
    room: int

    def is_between(self, state: State) -> bool:
        """Whether each thing in ``state`` is as it was or as it is to be, and nothing else is damaged."""
        return (
            set(state.objects.items()) <= self.before.objects.items() | self.after.objects.items()
            and all(
                state.files[name] in (self.before.files[name], self.after.files[name])
                for name in self.before.files
            )
            and [one for one in state.findings if one.damage and one not in self.before.findings] == []
        )


class Workshop:
    """A store with two images that share a layer, one of them pinned, and the same images as files."""

    def __init__(self, base: Path) -> None:
        self.base, self.files = base, base / "files"
        self._runs: dict[Operation, Run] = {}
        for name in (TOOL, KEPT):
            place = self.files / name[len("lab/") : -len(":1")]
            oci.write_layout(place, [_SHARED, _OWN[name]], {"Env": ["A=1"], "Cmd": ["/bin/sh"]})
            self._do("pull", "-q", "--name", name, f"oci:{place}")
        self._do("store", "pin", KEPT)
        self._do("store", "export", TOOL, KEPT, f"{self.files}/both.tar")

    def _do(self, *words: str) -> None:
        status, _, said = finish(processes.command(self.base, *words))
        assert status == 0, said

    def begin(self, operation: Operation, base: Path) -> list[str]:
        """Make ``base`` what the operation is to find; gives its words."""
        shutil.copytree(self.base / "store", base / "store")
        operation.before(base / "store")
        (base / "out").mkdir()
        for name in ("x.sqsh", "x.tar"):
            (base / "out" / name).write_bytes(b"what was there before")
        return [word.format(base=base, files=self.files) for word in operation.command.split()]

    def undisturbed(self, operation: Operation) -> Run:
        if operation not in self._runs:
            base = self.base / str(len(self._runs))
            base.mkdir()
            words = self.begin(operation, base)
            before, sizes, begun = State.of(base), _sizes(base), time.monotonic()
            status, _, said = finish(processes.counted(base, *words, steps=base / "steps"))
            seconds = time.monotonic() - begun
            assert status == 0, said
            made = {file: size for file, size in _sizes(base).items() if file not in sizes}
            gone = sum(size for (path, _), size in sizes.items() if not os.path.exists(path))
            room = max(0, sum(made.values()) - gone)
            steps = int((base / "steps").read_text())
            self._runs[operation] = Run(before, State.of(base), seconds, steps, room)
            assert sound.leftovers(base / "store") == []
            shutil.rmtree(base)
        return self._runs[operation]

    def check(self, operation: Operation, base: Path, words: list[str]) -> None:
        """The disturbed command has spoiled nothing; it succeeds now, and nothing is left over."""
        expected = self.undisturbed(operation)
        state = State.of(base)
        assert expected.is_between(state), state
        status, _, said = finish(processes.command(base, *words))
        assert (status, said) == (0, "")
        assert State.of(base) == expected.after
        assert sound.leftovers(base / "store") == [] and processes.survivors(base) == []


def _sizes(base: Path) -> dict[tuple[str, int], int]:
    """Bytes of all files by path and inode."""
    found = {str(path): path.stat() for path in base.rglob("*") if path.is_file()}
    return {(path, status.st_ino): status.st_size for path, status in found.items()}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@KINDS
@pytest.mark.parametrize("seed", seeded(KILLS, 1))
def test_a_command_is_killed(kind: str, seed: int, workshop: Workshop, tmp_path: Path) -> None:
    """By the clock, or before one of its steps, so that moments between them are met that are short."""
    operations, moments = OPERATIONS[kind], random.Random(f"{kind} {seed}")
    operation = operations[(seed + seed // 2) % len(operations)]
    words, usual = workshop.begin(operation, tmp_path), workshop.undisturbed(operation)
    if seed % 2:
        process = processes.command(tmp_path, *words)
        time.sleep(moments.uniform(0, usual.seconds))
        process.send_signal(signal.SIGKILL)
    else:
        last = moments.randint(1, usual.steps)
        process = processes.counted(tmp_path, *words, steps=tmp_path / "steps", last=last)
    finish(process)
    assert processes.survivors(tmp_path) == []
    workshop.check(operation, tmp_path, words)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
@KINDS
@pytest.mark.parametrize("point", seeded(DISKS, 1))
def test_the_disk_is_full(kind: str, point: int, workshop: Workshop, tmp_path: Path) -> None:
    operations = OPERATIONS[kind]
    operation = operations[(point + point // 2) % len(operations)]
    usual = workshop.undisturbed(operation)
    with small_disk(tmp_path / "disk", "ext4" if point % 2 else "tmpfs") as base:
        words = workshop.begin(operation, base)
        fill(base, usual.room * point // DISKS)
        status, out, said = finish(processes.command(base, *words))
        if usual.room:
            assert status == 1 and "no space left" in (said or out).lower() and said.count("\n") <= 1, said
        else:  # to make room is what it is for
            assert (status, said) == (0, "")
        assert sound.leftovers(base / "store") == [] and processes.survivors(base) == []
        assert State.of(base).files.keys() == usual.before.files.keys()
        (base / "filler").unlink()
        workshop.check(operation, base, words)


@contextmanager
def small_disk(place: Path, kind: str) -> Iterator[Path]:
    place.mkdir()
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(place))
    else:
        image = place.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(DISK)
        run("mkfs.ext4", "-q", "-m", "0", str(image))
        run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


def fill(place: Path, room: int) -> None:
    """Leave ``room`` bytes on a file system."""
    free = os.statvfs(place)
    with (place / "filler").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - (1 << 20))
        file.seek(0, os.SEEK_END)
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - room)
        os.fsync(file.fileno())

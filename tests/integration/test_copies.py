"""Images on network file systems are copied to the node once, and used where they are if that fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eyes import Eyes
from integration.registry import run
from integration.site import Lines
from pinnace import config, doctor, filesystems, locks, resolve
from pinnace.layers import Format
from pinnace.reference import parse
from pinnace.resolve import Found
from pinnace.store import Image, Store, copying, leases
from pinnace.store.build import workspace
from pinnace.store.images import Resolution

DIGEST = "sha256:" + "1" * 64


class Node:
    """A node with a disk of its own, and a share with an image."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.disk = base / "disk"
        self.share = base / "share"
        self.file = self.share / "image.sqsh"
        self.progress = Lines()
        for place in (self.disk, self.share, base / "tree"):
            place.mkdir()
        (base / "tree/f").write_bytes(os.urandom(2_000_000))
        self.packed()

    def packed(self, name: str = "image.sqsh") -> Path:
        path = self.share / name
        run("mksquashfs", str(self.base / "tree"), str(path), "-comp", "zstd", "-quiet", "-noappend")
        return path

    def environment(self, **values: str) -> dict[str, str]:
        given = {
            "node_store": str(self.disk),
            "copy_up": "always",
            "store": str(self.share / "store"),
            **values,
        }
        own = {"HOME": str(self.base), "XDG_CONFIG_HOME": str(self.base)}
        return own | {f"PINNACE_{name.upper()}": value for name, value in given.items()}

    def find(self, text: str = "", job: str = "", **values: str) -> Found:
        return resolve.find(
            text or str(self.file),
            settings=config.load(self.environment(**values), directory=str(self.base)),
            directory=str(self.share),
            platform="linux/amd64",
            progress=lambda: self.progress,
            job=job,
        )

    @property
    def own(self) -> Path:
        return self.disk / f"pinnace-{os.geteuid()}"

    def copies(self) -> list[str]:
        return sorted(path.name for path in self.own.glob("*") if path.is_file())

    def leftovers(self) -> list[str]:
        locks = [path.name for path in self.own.glob("locks/*") if not path.name.startswith("source-")]
        return locks + [name for name in self.copies() if name.endswith(".part")]


def end(found: Found) -> None:
    """What the end of a container does."""
    if found.lease is not None:
        os.close(found.lease)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    run("mount", *options, str(place))
    try:
        yield
    finally:
        run("umount", "--lazy", str(place))


# Which are copied


def test_a_file_is_copied_once_and_used_from_the_node(node: Node) -> None:
    first, second = node.find(), node.find()
    assert first.path == second.path and Path(first.path).parent == node.own
    assert Path(first.path).read_bytes() == node.file.read_bytes()
    assert first.foreign_ids == node.find(copy_up="never").foreign_ids
    assert [line.split(" (")[0] for line in node.progress.lines] == ["copying image.sqsh to this node"]
    assert node.leftovers() == []


def test_the_record_has_the_digest_of_what_was_copied(node: Node) -> None:
    record = json.loads(Path(node.find().path).with_suffix(".json").read_bytes())
    assert record["sha256"] == hashlib.sha256(node.file.read_bytes()).hexdigest()
    assert record["source"] == str(node.file)


def test_nobody_else_may_read_a_copy(node: Node) -> None:
    path = Path(node.find().path)
    assert path.parent.stat().st_mode & 0o777 == 0o700 and path.stat().st_mode & 0o777 == 0o600


def test_a_changed_file_is_copied_again(node: Node) -> None:
    before = node.find()
    (node.base / "tree/new").write_bytes(b"x")
    node.packed()
    after = node.find()
    assert after.path != before.path and Path(after.path).read_bytes() == node.file.read_bytes()


@pytest.mark.parametrize(
    "values",
    [{"node_store": ""}, {"copy_up": "never"}, {"copy_up": "auto"}],
    ids=["nowhere", "never", "local"],
)
def test_otherwise_it_is_used_where_it_is(values: dict[str, str], node: Node) -> None:
    assert node.find(**values).path == str(node.file) and node.copies() == [] and node.progress.lines == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_what_lies_on_a_network_file_system_is_copied_up_to_a_size(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a disk plays the network's part."""
    image = node.base / "ext4"
    with image.open("wb") as stream:
        stream.truncate(32 << 20)
    run("mkfs.ext4", "-q", str(image))
    with mounted(node.share, "-o", "loop", str(image)):
        node.packed()
        assert filesystems.kind(node.file.stat().st_dev) == "ext4"
        assert node.find(copy_up="auto").path == str(node.file)
        monkeypatch.setattr(filesystems, "NETWORK", frozenset(("ext4",)))
        assert node.find(copy_up="auto", copy_up_max="1M").path == str(node.file)
        assert Path(node.find(copy_up="auto").path).parent == node.own


def test_an_image_of_a_store_is_copied_and_kept_for_the_job(node: Node) -> None:
    store = Store(str(node.share / "store"))
    image = Image(DIGEST, "", {}, "linux/amd64", node.file.stat().st_size, (), "h.io/a:1", 1.0)
    with workspace(store, Format()) as place:
        temporary = Path(place.temporary())
        temporary.write_bytes(node.file.read_bytes())
        image = place.put_image(image, str(temporary))
        place.record(parse("h.io/a:1"), Resolution(DIGEST, DIGEST, time.time(), "linux/amd64", "h.io/a:1"))
    found = node.find("h.io/a:1", job=leases.job_name(7, "c"))
    assert Path(found.path).parent == node.own and found.digest == DIGEST
    assert Path(found.path).read_bytes() == Path(image.path).read_bytes()
    assert [path.name for path in (node.share / "store/leases").iterdir()] == [f"{'1' * 64}-7-c"]
    with leases.alone(image.path) as alone:
        assert alone  # the container needs no more than its copy
    os.utime(image.path, ns=(0, os.stat(image.path).st_mtime_ns))
    assert node.find("h.io/a:1").path == found.path  # each use of an image is noted in its file
    with leases.alone(found.path) as alone:
        assert not alone


# Together


def start(node: Node, program: str = "", **values: str) -> subprocess.Popen[bytes]:
    script = (
        "import sys; from pinnace import config, resolve; from pinnace.progress import PlainProgress\n"
        f"{program}\n"
        "found = resolve.find(sys.argv[1], settings=config.load(), directory='/', progress=PlainProgress)\n"
        "print(found.path)"
    )
    environment = {**os.environ, **node.environment(**values)}
    environment["PYTHONPATH"] = str(Path(resolve.__file__).parents[1])
    command = [sys.executable, "-c", script, str(node.file)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_of_twenty_starts_at_once_one_copies(node: Node) -> None:
    started = [start(node) for _ in range(20)]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 20, said
    assert len({path for path, _ in said}) == 1 and said[0][0].startswith(os.fsencode(node.own))
    assert sum(text.count(b"copying ") for _, text in said) == 1 and node.leftovers() == []


def test_so_many_copies_are_made_at_a_time_from_one_file_system(node: Node) -> None:
    node.find()
    device = node.file.stat().st_dev
    other = node.packed("other.sqsh")
    places = [str(node.own / f"locks/source-{device}-{number}") for number in range(2)]
    with locks.held_if_free(places[0]) as one, locks.held_if_free(places[1]) as two:
        assert one and two
        node.progress.message = Leave(node.progress)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            node.find(f"./{other.name}")
    assert node.progress.lines[-1] == "waiting for other copies from the same file system"
    assert Path(node.find(f"./{other.name}").path).parent == node.own and node.leftovers() == []


class Leave:
    """Does not wait."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines.lines

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith("waiting"):
            raise KeyboardInterrupt


def test_what_is_killed_leaves_nothing_to_the_next(node: Node) -> None:
    process = start(node, "import os, signal; os.fsync = lambda _: signal.pause()")
    while not list(node.own.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    other = node.packed("other.sqsh")
    assert Path(node.find(f"./{other.name}").path).parent == node.own
    assert node.leftovers() == [] and len(node.copies()) == 2


def test_two_users_have_their_own(node: Node, ordinary_eyes: Eyes) -> None:
    mine = node.find()
    node.disk.chmod(0o1777)
    with ordinary_eyes():
        theirs = node.find()
        assert theirs.path != mine.path and Path(theirs.path).stat().st_uid == os.geteuid()


# Room


def test_beyond_the_quota_the_longest_unused_go_but_none_that_is_used(node: Node) -> None:
    size = node.file.stat().st_size
    used = node.find()
    names = [node.packed(f"{number}.sqsh").name for number in range(3)]
    quota = str(3 * size + 1000)
    for hours, name in enumerate(names[:2]):
        found = node.find(f"./{name}", node_quota=quota)
        end(found)
        os.utime(found.path, (time.time() - 3600 * (5 - hours),) * 2)
    before = node.copies()
    end(node.find(f"./{names[2]}", node_quota=quota))
    assert len(node.copies()) == len(before) == 6 and Path(used.path).exists()
    assert Path(node.find(f"./{names[1]}", node_quota=quota).path).parent == node.own
    assert [line.split(" (")[0] for line in node.progress.lines].count(
        f"copying {names[1]} to this node"
    ) == 1


def test_what_is_larger_than_the_quota_is_used_where_it_is(node: Node) -> None:
    found = node.find(node_quota="1M")
    assert found.path == str(node.file) and node.copies() == []
    (line,) = (line for line in node.progress.lines if "used where it is" in line)
    assert "its quota is 1.0 MiB" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs root")
def test_on_a_full_disk_the_longest_unused_goes_and_else_the_file_is_used_where_it_is(node: Node) -> None:
    with mounted(node.disk, "-t", "tmpfs", "-o", "size=5M", "tmpfs"):
        end(node.find())
        other = node.packed("other.sqsh")
        with (node.disk / "others").open("wb") as stream:
            stream.write(bytes(2 << 20))
        found = node.find(f"./{other.name}")
        assert Path(found.path).parent == node.own and len(node.copies()) == 2
        again = node.find()
        end(found)
        assert again.path == str(node.file) and "no space left" in node.progress.lines[-1]
        assert node.leftovers() == []


# What goes wrong


def test_a_directory_of_somebody_else_is_not_used(node: Node) -> None:
    node.own.mkdir(mode=0o700)
    os.chown(node.own, 1234, 1234)
    assert node.find().path == str(node.file) and "is not yours alone" in node.progress.lines[-1]


def test_a_directory_that_is_not_there_is_one_line(node: Node) -> None:
    found = node.find(node_store=str(node.base / "nowhere"))
    assert found.path == str(node.file) and "No such file or directory" in node.progress.lines[-1]


@pytest.mark.parametrize("there", [True, False])
def test_the_doctor_looks_at_the_place(there: bool, node: Node) -> None:
    place = str(node.disk if there else node.base / "nowhere")
    settings = config.load(node.environment(node_store=place), directory=str(node.base))
    (found,) = (finding for finding in doctor.examine(settings) if finding.name == "node store")
    assert found.ok == there and place in found.message


def test_a_copy_that_the_disk_has_changed_is_not_used(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    true = os.fsync

    def changing(descriptor: int) -> None:
        os.pwrite(descriptor, b"x" * 10, 5000)
        true(descriptor)

    monkeypatch.setattr("pinnace.store.copying.os.fsync", changing)
    assert node.find().path == str(node.file)
    assert "is not what was written to it" in node.progress.lines[-1] and node.leftovers() == []


def test_a_file_that_changes_meanwhile_is_used_where_it_is(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = copying._read

    def changing(descriptor: int, path: str) -> bytes:
        os.utime(path, (0, 0))
        return true(descriptor, path)

    monkeypatch.setattr(copying, "_read", changing)
    assert node.find().path == str(node.file)
    assert "was changed while it was read" in node.progress.lines[-1] and node.copies() == []


def test_a_copy_without_a_record_is_none(node: Node) -> None:
    path = Path(node.find().path)
    path.with_suffix(".json").unlink()
    assert node.find().path == str(path) and len(node.copies()) == 2

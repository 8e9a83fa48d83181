"""Trees of images in the store: made once, used by all containers of a user, collected."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eyes import Eyes
from integration.registry import run
from integration.site import Lines
from integration.trees import describe
from pinnace import config, resolve
from pinnace.config import Settings
from pinnace.errors import ImageError, StoreError
from pinnace.layers import Format, unpacking
from pinnace.reference import parse
from pinnace.resolve import Found
from pinnace.store import Image, Store, collection, leases, repair, verification
from pinnace.store.build import workspace
from pinnace.store.images import Resolution
from pinnace.store.listing import entries, totals
from pinnace.store.retention import Policy, Report

DAY = 86400.0
NAME = "h.io/a:1"
DIGEST = "sha256:" + "1" * 64
EVERYTHING = Policy(max_age=0)


class Site:
    """A store with one image, whose tree is ``files``."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.files = base / "files"
        self.root = base / "store"
        self.store = Store(str(self.root))
        self.environment = {"HOME": str(base), "XDG_CONFIG_HOME": str(base), "PINNACE_STORE": str(self.root)}
        self.progress = Lines()
        (self.files / "d").mkdir(parents=True)
        for number in range(50):
            (self.files / f"d/{number}").write_bytes(b"%d\n" % number * 500 * number)
        (self.files / "l").symlink_to("d/1")
        (self.files / "d").chmod(0o555)
        self.files.chmod(0o555)
        self.file = self.packed(base / "image.sqsh")
        self.image = self.add(self.store)

    def packed(self, path: Path) -> Path:
        run("mksquashfs", str(self.files), str(path), "-comp", "zstd", "-quiet", "-no-progress", "-noappend")
        return path

    def add(self, store: Store) -> Image:
        """Put the image into a store, by its digest and its name."""
        image = Image(DIGEST, "", {"Env": ["A=1"]}, "linux/amd64", self.file.stat().st_size, (), NAME, 1.0)
        resolution = Resolution(DIGEST, DIGEST, time.time(), "linux/amd64", NAME)
        with workspace(store, Format()) as place:
            temporary = Path(place.temporary())
            temporary.write_bytes(self.file.read_bytes())
            image = place.put_image(image, str(temporary))
            place.record(parse(NAME), resolution)
        return image

    def settings(self, **values: str) -> Settings:
        given = {f"PINNACE_{name.upper()}": value for name, value in values.items()}
        return config.load({**self.environment, **given}, directory=str(self.base))

    def find(self, text: str = NAME, job: str = "", **values: str) -> Found:
        return resolve.find(
            text,
            settings=self.settings(**values),
            directory=str(self.base),
            platform="linux/amd64",
            progress=lambda: self.progress,
            job=job,
            unpack=True,
        )

    def tree(self, text: str = NAME) -> Path:
        """Its tree, which no container holds."""
        found = self.find(text)
        end(found)
        return Path(found.tree or "")

    def unused_for(self, seconds: float) -> None:
        then = time.time() - seconds
        for path in (*self.root.glob("unpacked/*/record.json"), *self.root.glob("images/sha256/*.sqsh")):
            os.utime(path, (then, then))

    def collect(self, policy: Policy = EVERYTHING, *, dry_run: bool = False) -> Report:
        return collection.collect(self.store, policy, None, dry_run=dry_run)

    def trees(self) -> list[str]:
        return sorted(path.name for path in self.root.glob("unpacked/*"))

    def leftovers(self) -> list[str]:
        return [path.name for part in ("tmp", "locks") for path in (self.root / part).glob("*")]


def end(found: Found) -> None:
    """What the end of a container does."""
    if found.lease is not None:
        os.close(found.lease)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path)


# Making


def test_an_image_is_unpacked_once_and_said_so(site: Site) -> None:
    first, second = site.find(), site.find()
    assert first.tree == second.tree and first.path == site.image.path and first.config == {"Env": ["A=1"]}
    assert describe(Path(first.tree or "")) == describe(site.files)
    assert [line for line in site.progress.lines if "unpack" in line] == [
        f"unpacking {NAME} (53 files, {site.progress.lines[0].split(', ')[1]}"
    ]
    assert site.leftovers() == []
    end(first)
    end(second)


def test_a_tree_lies_where_nobody_else_gets(site: Site) -> None:
    assert site.tree().parent.stat().st_mode & 0o777 == 0o700


def test_a_file_of_the_users_is_unpacked_as_it_is_now(site: Site) -> None:
    before = site.tree("./image.sqsh")
    assert site.tree("./image.sqsh") == before and describe(before) == describe(site.files)
    site.files.chmod(0o755)
    (site.files / "new").write_bytes(b"x")
    site.packed(site.file)
    after = site.tree("./image.sqsh")
    assert after != before and (after / "new").exists() and not (before / "new").exists()


def test_an_image_of_an_additional_store_is_unpacked_in_ones_own(site: Site) -> None:
    other = Store(str(site.base / "site"))
    site.add(other)
    site.root.rename(site.base / "away")
    found = site.find(additional_stores=other.root)
    assert found.path.startswith(other.root) and (found.tree or "").startswith(str(site.root))
    end(found)
    report = collection.collect(site.store, Policy(), None, replaced(site, other))
    assert report.trees == 0 and len(site.trees()) == 1


def replaced(site: Site, other: Store) -> Store:
    """What references may lead to."""
    from pinnace.store.stack import StackedStore

    return StackedStore(site.store, [other.root])  # type: ignore[return-value]


def test_of_several_starts_at_once_one_unpacks(site: Site) -> None:
    program = (
        "import os, sys; from pinnace import config, resolve; from pinnace.progress import PlainProgress\n"
        "found = resolve.find(sys.argv[1], settings=config.load(), directory='/', platform='linux/amd64',\n"
        "                     progress=PlainProgress, unpack=True)\n"
        "assert len(os.listdir(found.tree + '/d')) == 50"
    )
    command = [sys.executable, "-c", program, NAME]
    path = {"PYTHONPATH": str(Path(resolve.__file__).parents[1])}
    started = [
        subprocess.Popen(command, env={**os.environ, **site.environment, **path}, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    said = b"".join(process.communicate()[1] for process in started)
    assert [process.returncode for process in started] == [0] * 6, said
    assert said.count(b"unpacking ") == 1 and site.leftovers() == [] and len(site.trees()) == 1


def test_one_who_waits_is_told_and_takes_over_if_the_first_is_killed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(unpacking._Blocks, "copy", lambda *_: signal.pause())
        site.find()
        os._exit(1)
    while not list(site.root.glob("tmp/*/*/root/d/*")):
        time.sleep(0.01)
    site.progress.message = Killer(child, site.progress)  # type: ignore[method-assign]
    found = site.find()
    os.waitpid(child, 0)
    assert describe(Path(found.tree or "")) == describe(site.files)
    assert f"waiting for another process that unpacks {NAME}" in site.progress.lines
    site.collect(Policy())
    assert site.leftovers() == [] and len(site.trees()) == 1
    end(found)


class Killer:
    """Kills a process when something is waited for."""

    def __init__(self, process: int, lines: Lines) -> None:
        self.process, self.lines = process, lines.lines

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith("waiting"):
            os.kill(self.process, signal.SIGKILL)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_interrupted_leaves_nothing(
    error: type[BaseException], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr(unpacking._Blocks, "copy", interrupted)
    with pytest.raises(error):
        site.find()
    assert site.leftovers() == [] and site.trees() == []


# Hostile and impossible


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(site: Site) -> None:
    with pytest.raises(ImageError, match=r"the limit is 1\.0 MiB; use the backend squashfuse") as caught:
        site.find(unpack_max="1M")
    assert caught.value.identifier == "image-too-large" and site.leftovers() == [] and site.trees() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs root")
@pytest.mark.parametrize("foreseen", [True, False])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    foreseen: bool, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.base / "small").mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(site.base / "small"))
    try:
        if not foreseen:  # others may take what was free
            monkeypatch.setattr("pinnace.store.trees._check_room", lambda *_: None)
        root = site.base / "small/store"
        with pytest.raises(StoreError, match=r"^no space") as caught:
            site.find("./image.sqsh", store=str(root))
        assert caught.value.identifier == "disk-full" and "\n" not in str(caught.value)
        assert not list((root / "tmp").iterdir()) and not list(root.glob("unpacked/*"))
    finally:
        run("umount", str(site.base / "small"))


def test_a_damaged_image_leaves_no_tree(site: Site) -> None:
    data = bytearray(site.file.read_bytes())
    data[100:200] = bytes(100)
    site.file.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        site.find("./image.sqsh")
    assert site.leftovers() == [] and site.trees() == []


def test_a_compressor_that_cannot_be_read_is_told_with_a_way_out(site: Site) -> None:
    data = bytearray(site.file.read_bytes())
    data[20:22] = (3).to_bytes(2, "little")  # lzo
    site.file.write_bytes(data)
    with pytest.raises(ImageError, match="compressed by lzo cannot be read; `pinnace pull"):
        site.find("./image.sqsh")


def test_a_file_that_changes_meanwhile_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    true = unpacking.unpack

    def changing(*arguments: object) -> bool:
        os.utime(site.file, (0, 0))
        return true(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("pinnace.store.trees.unpack", changing)
    with pytest.raises(ImageError, match="was changed while it was read; try again"):
        site.find("./image.sqsh")
    assert site.trees() == []


def test_what_another_user_has_put_there_is_not_used(site: Site) -> None:
    tree = site.tree()
    os.chown(tree.parent, 1234, 1234)
    again = site.tree()
    assert again == tree and again.parent.stat().st_uid == os.geteuid()


def test_a_link_in_the_place_of_a_tree_is_not_followed(site: Site) -> None:
    tree = site.tree()
    tree.parent.rename(site.base / "elsewhere")
    tree.parent.symlink_to(site.base / "elsewhere")
    assert site.tree() == tree and not tree.parent.is_symlink()


def test_two_users_of_one_store_have_their_own_trees(site: Site, ordinary_eyes: Eyes) -> None:
    mine = site.tree()
    for path in (site.root, *(site.root / name for name in ("tmp", "locks", "unpacked"))):
        path.chmod(0o777)
    with ordinary_eyes():
        theirs = site.tree()
        assert theirs != mine and theirs.stat().st_uid == os.geteuid()
        assert describe(theirs) == describe(site.files)
    assert len(site.trees()) == 2


# What is kept, and what goes


def test_a_tree_that_a_container_runs_from_stays(site: Site) -> None:
    found = site.find()
    site.unused_for(DAY)
    assert site.collect().trees == 0 and len(site.trees()) == 1 and site.store.images()
    end(found)
    report = site.collect()
    assert report.trees == 1 and len(report.images) == 1
    assert site.trees() == [] and site.leftovers() == []


def test_a_tree_whose_job_has_not_ended_stays(site: Site) -> None:
    end(site.find(job=leases.job_name(7, "c")))
    site.unused_for(DAY)
    assert site.collect().trees == 0 and len(site.trees()) == 1


def test_an_image_is_as_young_as_its_tree(site: Site) -> None:
    site.tree()
    site.unused_for(2 * DAY)
    (record,) = site.root.glob("unpacked/*/record.json")
    os.utime(record)
    assert site.collect(Policy(max_age=DAY)).images == [] and site.store.images()


def test_a_use_is_noted(site: Site) -> None:
    site.tree()
    site.unused_for(2 * DAY)
    site.tree()
    assert site.collect(Policy(max_age=DAY)).trees == 0


def test_for_the_quota_trees_go_before_images_and_count(site: Site) -> None:
    site.tree()
    size = totals(site.store)["unpacked"].taken
    assert size > 1_000_000
    report = site.collect(Policy(quota=size + 1000, low_water=size + 1000))
    assert report.trees == 1 and report.images == [] and report.before - report.after == size


def test_unpacking_keeps_the_quota_as_a_pull_does(site: Site) -> None:
    other = site.find("./image.sqsh")
    end(other)
    found = site.find(gc_quota="100K")
    assert len(site.trees()) == 1 and Path(found.tree or "").exists() and not Path(other.tree or "").exists()
    assert "its quota is 100.0 KiB; images that stay: 1 in use" in site.progress.lines[-1]
    end(found)


def test_a_removal_that_is_killed_leaves_no_tree_and_the_next_run_ends_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    site.tree()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pinnace.store.trees.removal.remove", killed)
        site.collect()
    assert site.trees() == [] and list((site.root / "tmp").iterdir())
    site.collect()
    assert site.leftovers() == []


def test_a_dry_run_removes_nothing(site: Site) -> None:
    site.tree()
    report = site.collect(dry_run=True)
    assert report.trees == 1 and len(report.images) == 1 and len(site.trees()) == 1


def test_the_tree_of_a_file_that_was_changed_or_removed_goes(site: Site) -> None:
    site.tree("./image.sqsh")
    assert site.collect(Policy()).trees == 0
    os.utime(site.file)
    assert site.collect(Policy()).trees == 1
    site.tree("./image.sqsh")
    site.file.unlink()
    assert site.collect(Policy()).trees == 1 and site.trees() == []


def test_the_tree_of_a_file_whose_directory_is_not_there_stays(site: Site) -> None:
    """The file system may not be mounted."""
    (site.base / "share").mkdir()
    site.file.rename(site.base / "share/image.sqsh")
    site.tree("./share/image.sqsh")
    (site.base / "share").rename(site.base / "unmounted")
    assert site.collect(Policy()).trees == 0


def test_a_removed_image_takes_its_tree_with_it(site: Site) -> None:
    site.tree()
    assert site.store.remove(parse(NAME)).freed > 1_000_000
    assert site.trees() == [] and site.leftovers() == []


def test_a_container_keeps_the_tree_of_a_removed_image(site: Site) -> None:
    found = site.find()
    site.store.remove(parse(NAME))
    assert describe(Path(found.tree or "")) == describe(site.files)
    assert site.collect(Policy()).trees == 0
    end(found)
    assert site.collect(Policy()).trees == 1


def test_a_listing_tells_what_a_tree_takes(site: Site) -> None:
    assert [entry.unpacked for entry in entries(site.store)] == [0]
    found = site.find()
    (entry,) = entries(site.store)
    assert entry.unpacked == totals(site.store)["unpacked"].taken > 1_000_000 and entry.in_use
    end(found)
    assert not entries(site.store)[0].in_use


def test_trees_are_no_findings_and_what_is_none_is_removed(site: Site) -> None:
    tree = site.tree()
    assert list(verification.verify(site.store)) == []
    (tree.parent / "record.json").unlink()
    assert [one.problem for one in verification.verify(site.store)] == ["a tree without a record"]
    (done,) = repair.repair(site.store, Format())
    assert done.done and site.trees() == []


def test_a_record_that_cannot_be_read_stops_nothing(site: Site) -> None:
    tree = site.tree()
    for text in ("", "[]", "{}", json.dumps({"digest": 1, "file": [], "size": "x"})):
        (tree.parent / "record.json").write_text(text)
        site.collect(Policy())
        entries(site.store)
    assert site.store.images()

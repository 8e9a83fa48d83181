"""Stores that were damaged: what is found, what is mended, and that nothing good is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration import sound
from integration.registry import Layout, run
from integration.site import StoreSite
from integration.trees import directory, entry, layer
from pinnace import imports, locks, supply
from pinnace.errors import StoreError
from pinnace.layers import Format
from pinnace.squashfs.format import Superblock
from pinnace.store.repair import Repair, repair
from pinnace.store.verification import Finding, verify

BASE = [directory("./"), directory("etc"), entry("etc/f", content=os.urandom(300_000))]
TOP = [entry("data", content=os.urandom(300_000))]
FORM = Format()


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an image of two layers."""
    base = tmp_path_factory.mktemp("image")
    made = Layout(base / "layout")
    for number, entries in enumerate((BASE, TOP)):
        (base / f"{number}.tar").write_bytes(layer(entries))
        made.add_layer(base / f"{number}.tar")
    site = StoreSite(base, None)  # type: ignore[arg-type]
    imports.fetch(
        f"oci:{made.path}", store=site.store, settings=site.settings, progress=lambda: site.progress
    )
    return base


class Damaged:
    """A copy of that store, to be damaged."""

    def __init__(self, base: Path) -> None:
        self.site = StoreSite(base, None)  # type: ignore[arg-type]
        self.root, self.store = self.site.root, self.site.store
        self.image = self.store.images()[0]
        self.bottom, self.top = self.image.layers
        self.good = sound.objects(self.root)
        self.places = {
            "image": Path(self.image.path),
            "record": Path(self.store.record_path(self.image.digest)),
            "layer": Path(self.store.layer_path(self.bottom)),
            "layer record": Path(self.store.layer_record_path(self.bottom)),
            "reference": Path(self.store.resolution_files()[0]),
            "store": self.root / "store.json",
        }

    def verify(self, **options: Any) -> list[Finding]:
        return list(verify(self.store, **options))

    def damages(self, **options: Any) -> list[tuple[str, str]]:
        return [(finding.kind, finding.problem) for finding in self.verify(**options) if finding.damage]

    def repair(self) -> list[Repair]:
        done = list(repair(self.store, FORM))
        faults = [fault for fault in sound.faults(self.root, self.good) if "has no layers" not in fault]
        assert sound.leftovers(self.root) == [] and faults == []
        assert self.damages() == []
        return done


@pytest.fixture
def damaged(pulled: Path, tmp_path: Path) -> Damaged:
    shutil.copytree(pulled / "store", tmp_path / "store")
    return Damaged(tmp_path)


def flip(path: Path) -> None:
    """Another byte in the middle of the data: same size, same superblock, same tables."""
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def foreign(path: Path) -> None:
    """The right bytes with a superblock of the wrong version: what a copy by hand may leave."""
    content = bytearray(path.read_bytes())
    content[28:32] = b"\3\0\0\0"
    path.write_bytes(content)


def test_a_good_store_has_no_findings_and_nothing_is_done_to_it(damaged: Damaged) -> None:
    before = {path: path.stat() for path in damaged.root.rglob("*") if path.is_file()}
    assert damaged.verify() == [] and damaged.verify(images=[damaged.image]) == []
    assert damaged.repair() == []
    after = {path: path.stat() for path in damaged.root.rglob("*") if path.is_file()}
    assert {path: (s.st_ino, s.st_mtime_ns) for path, s in before.items()} == {
        path: (s.st_ino, s.st_mtime_ns) for path, s in after.items()
    }


@pytest.mark.parametrize(
    ("place", "damage", "kind", "problem"),
    [
        ("image", flip, "image", "its bytes are not those that were written"),
        ("image", cut, "image", " bytes"),
        ("image", empty, "image", "it has 0 of "),
        ("image", remove, "image", "its file is missing"),
        ("image", foreign, "image", "is squashfs 3.0"),
        ("record", empty, "image", "its record cannot be read"),
        ("layer", flip, "layer", "its bytes are not those that were written"),
        ("layer", cut, "layer", " bytes"),
        ("layer record", empty, "layer", "its record cannot be read"),
        ("reference", empty, "reference", "it cannot be read"),
        ("store", empty, "store", "it cannot be read"),
        ("store", remove, "store", "it is missing"),
    ],
)
def test_damage_is_found_and_mended(
    place: str, damage: Callable[[Path], None], kind: str, problem: str, damaged: Damaged
) -> None:
    damage(damaged.places[place])
    found = damaged.damages()
    assert found[0][0] == kind and problem in found[0][1]
    assert all(done.done for done in damaged.repair())


def test_a_quick_verification_reads_no_whole_files(damaged: Damaged) -> None:
    flip(damaged.places["image"])
    assert damaged.damages(quick=True) == [] and len(damaged.damages()) == 1
    cut(damaged.places["layer"])
    assert [kind for kind, _ in damaged.damages(quick=True)] == ["layer"]


def test_an_image_is_built_anew_to_the_same_bytes(damaged: Damaged) -> None:
    flip(damaged.places["image"])
    (done,) = damaged.repair()
    assert done.action == "built anew from its layers"
    assert sound.objects(damaged.root) == damaged.good
    image = damaged.store.image(damaged.image.digest)
    assert image is not None and image.origin == damaged.image.origin


def test_an_image_that_is_in_use_is_replaced_and_not_overwritten(damaged: Damaged) -> None:
    flip(damaged.places["image"])
    with damaged.places["image"].open("rb") as running:
        before = running.read()
        damaged.repair()
        running.seek(0)
        assert running.read() == before and os.fstat(running.fileno()).st_nlink == 0


def test_an_image_whose_layers_are_damaged_too_goes_and_so_does_its_name(damaged: Damaged) -> None:
    cut(damaged.places["image"])
    flip(damaged.places["layer"])
    actions = {done.finding.kind: done.action for done in damaged.repair()}
    assert actions == {
        "layer": "removed: the next pull that wants it fetches it",
        "image": "removed: the next pull fetches it",
        "reference": "removed",
    }
    assert set(sound.objects(damaged.root)) == {f"layers/sha256/{damaged.top[7:]}.sqsh"}


def test_a_good_image_stays_when_its_layer_goes_and_that_is_a_note(damaged: Damaged) -> None:
    flip(damaged.places["layer"])
    done = list(repair(damaged.store, FORM))
    assert [one.finding.kind for one in done] == ["layer"]
    assert damaged.store.images() == [damaged.image]
    (note,) = damaged.verify()
    assert not note.damage and "layers of it are gone" in note.problem


def test_a_name_of_an_image_that_is_gone_is_no_damage_and_goes(damaged: Damaged) -> None:
    damaged.store.remove_image(damaged.image.digest)
    (note,) = damaged.verify()
    assert not note.damage and "leads to no image" in note.problem
    assert [done.action for done in damaged.repair()] == ["removed"] and damaged.verify() == []


def test_an_image_is_built_anew_from_another_stores_layers(
    damaged: Damaged, pulled: Path, tmp_path: Path
) -> None:
    before = Path(damaged.image.path).read_bytes()
    flip(damaged.places["image"])
    damaged.store.remove_layer(damaged.bottom)
    damaged.site.settings.values["additional_stores"] = (str(pulled / "store"),)
    known = supply.catalogue(damaged.store, damaged.site.settings)
    (done,) = repair(known, FORM)
    assert done.action == "built anew from its layers"
    assert Path(damaged.image.path).read_bytes() == before


def test_what_killed_processes_left_is_noted_and_removed(damaged: Damaged) -> None:
    hexadecimal = "9" * 64
    (damaged.root / "images" / "sha256" / f"{hexadecimal}.sqsh").write_bytes(b"half")
    (damaged.root / "layers" / "sha256" / f"{hexadecimal}.json").write_bytes(b"{}")
    (damaged.root / "tmp" / "pinnace-dead").mkdir(parents=True)
    os.utime(damaged.root / "tmp" / "pinnace-dead", (1, 1))
    found = damaged.verify()
    assert {finding.kind for finding in found} == {"leftover"} and not any(one.damage for one in found)
    assert {done.action for done in damaged.repair()} == {"removed"}
    assert damaged.verify() == []


def test_what_is_checked_and_good_is_as_old_as_before(damaged: Damaged) -> None:
    for path in damaged.root.rglob("*.sqsh"):
        os.utime(path, (1000, 2000))
    assert damaged.verify() == [] and list(repair(damaged.store, FORM)) == []
    assert {path.stat().st_atime for path in damaged.root.rglob("*.sqsh")} == {1000}


@pytest.mark.parametrize("part", ["references", "images/sha256", "layers", "tmp"])
def test_a_link_in_the_place_of_a_directory_is_not_followed(
    damaged: Damaged, part: str, tmp_path: Path
) -> None:
    (damaged.root / part).rename(tmp_path / "aside") if (damaged.root / part).exists() else None
    victim = tmp_path / "victim" / "pinnace-x"
    victim.mkdir(parents=True)
    (victim / "settings.json").write_text("mine")
    (damaged.root / part).symlink_to(victim.parent, target_is_directory=True)
    with pytest.raises(StoreError, match="nothing was touched"):
        list(repair(damaged.store, FORM))
    assert (victim / "settings.json").exists()


def test_what_is_being_made_is_no_leftover(damaged: Damaged) -> None:
    digest = "sha256:" + "9" * 64
    half = Path(damaged.store.image_path(digest))
    half.write_bytes(b"half")
    with locks.held(damaged.store.lock_path("image", digest)):
        assert damaged.verify() == []
    assert len(damaged.verify()) == 1


def test_files_that_are_not_the_stores_are_left_alone(damaged: Damaged) -> None:
    for name in ("README", "x.sqsh", "x.json"):
        (damaged.root / "images" / "sha256" / name).write_bytes(b"mine")
    assert damaged.verify() == [] and list(repair(damaged.store, FORM)) == []
    assert (damaged.root / "images" / "sha256" / "README").read_bytes() == b"mine"


def test_two_repairs_at_once_do_it_once(damaged: Damaged) -> None:
    import threading

    flip(damaged.places["image"])
    done: list[Repair] = []
    threads = [threading.Thread(target=lambda: done.extend(repair(damaged.store, FORM))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.action for one in done] == ["built anew from its layers"] and damaged.repair() == []


def test_a_repair_without_room_says_so_and_spoils_nothing(damaged: Damaged, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=3m", "none", str(small))
    try:
        shutil.copytree(damaged.root, small / "store")
        full = Damaged(small)
        flip(full.places["image"])
        filler = small / "filler"
        with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
            while True:
                stream.write(bytes(4096))
        os.truncate(filler, filler.stat().st_size - (256 << 10))
        (failed,) = repair(full.store, FORM)
        assert not failed.done and "no space left" in failed.action
        assert [kind for kind, _ in full.damages()] == ["image"] and sound.leftovers(full.root) == []
        filler.unlink()
        assert [done.action for done in full.repair()] == ["built anew from its layers"]
    finally:
        run("umount", str(small))


def test_a_store_of_another_format_is_not_repaired(damaged: Damaged) -> None:
    description = json.loads(damaged.places["store"].read_text())
    damaged.places["store"].write_text(json.dumps({**description, "format": 99}))
    flip(damaged.places["image"])
    with pytest.raises(StoreError, match="made with other settings"):
        list(repair(damaged.store, FORM))


def test_a_store_that_is_not_there_is_sound(tmp_path: Path) -> None:
    site = StoreSite(tmp_path, None)  # type: ignore[arg-type]
    assert list(verify(site.store)) == [] and list(repair(site.store, FORM)) == []
    assert not site.root.exists()


def test_images_whose_layers_are_gone_are_checked_by_their_tree(damaged: Damaged) -> None:
    damaged.store.remove_layer(damaged.bottom)
    assert damaged.damages() == []
    content = bytearray(damaged.places["image"].read_bytes())
    place = Superblock.unpack(bytes(content)).inode_table
    content[place + 2 : place + 40] = b"\xff" * 38
    damaged.places["image"].write_bytes(content)
    assert [kind for kind, _ in damaged.damages()] == ["image"]

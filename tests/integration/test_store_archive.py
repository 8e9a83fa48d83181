"""Images carried from store to store: exports, imports, and archives that are not what they say."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration import sound
from integration.registry import Layout, run
from integration.site import StoreSite
from integration.trees import directory, entry, layer
from pinnace import imports, reference, supply
from pinnace.errors import PinnaceError
from pinnace.layers import Format
from pinnace.reference import Reference
from pinnace.store import Image, archive
from pinnace.store.collection import collect
from pinnace.store.retention import Policy

BASE = [directory("./"), directory("etc"), entry("etc/f", content=os.urandom(300_000))]
TOPS = [[entry("data", content=os.urandom(100_000))], [entry("other", content=b"1")]]
FORM = Format()
NOTHING = "sha256:" + "1" * 64
Members = list[tuple[str, bytes]]


class Site(StoreSite):
    def __init__(self, base: Path) -> None:
        base.mkdir(exist_ok=True)
        super().__init__(base, None)  # type: ignore[arg-type]

    def fetch(self, text: str, name: str) -> tuple[Reference, Image]:
        return imports.fetch(
            text, store=self.store, settings=self.settings, progress=lambda: self.progress, name=name
        )

    def write(self, *names: str) -> bytes:
        """An archive of images."""
        known = supply.catalogue(self.store, self.settings)
        parsed = [reference.parse(name) for name in names]
        found = [(one, known.lookup(one, "linux/amd64", float("inf"))) for one in parsed]
        out = io.BytesIO()
        archive.write(known, [(one, image) for one, image in found if image], out.write)
        return out.getvalue()

    def read(self, content: bytes, rename: str | None = None) -> list[tuple[str, Image]]:
        known = supply.catalogue(self.store, self.settings)
        named = reference.parse(rename) if rename else None
        found = archive.read(io.BytesIO(content), "x.tar", known, FORM, rename=named)
        return [(str(name), image) for name, image in found]

    def refuses(self, content: bytes) -> str:
        """The error of a read that leaves nothing behind."""
        with pytest.raises(PinnaceError) as caught:
            self.read(content)
        assert "\n" not in str(caught.value) and self.leftovers() == []
        assert sound.objects(self.root) == {} and list(self.store.resolutions()) == []
        return str(caught.value)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the images lab/a:1 and lab/b:1, which share a layer."""
    base = tmp_path_factory.mktemp("origin")
    site = Site(base)
    for name, top in zip("ab", TOPS):
        made = Layout(base / name)
        for number, entries in enumerate((BASE, top)):
            (base / f"{number}.tar").write_bytes(layer(entries))
            made.add_layer(base / f"{number}.tar")
        made.configure("--config.env", f"NAME={name}")
        site.fetch(f"oci:{made.path}", f"lab/{name}:1")
    return base


@pytest.fixture
def source(origin: Path) -> Site:
    return Site(origin)


@pytest.fixture
def target(tmp_path: Path) -> Site:
    return Site(tmp_path / "target")


def members(content: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        return [(info.name, opened.extractfile(info).read()) for info in opened]  # type: ignore[union-attr]


def packed(entries: Members, **special: tuple[bytes, str]) -> bytes:
    """A tar archive; ``special`` gives members another kind and a link's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, body in entries:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            made.addfile(info, io.BytesIO(body))
        for name, (kind, link) in special.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            made.addfile(info)
    return out.getvalue()


def test_an_image_arrives_as_it_was(source: Site, target: Site) -> None:
    sent = source.store.images()
    ((name, image),) = target.read(source.write("lab/a:1"))
    assert name == "docker.io/lab/a:1" and image.config["Env"][-1] == "NAME=a"
    origin = next(one for one in sent if one.digest == image.digest)
    assert (image.sha256, image.layers, image.origin) == (origin.sha256, origin.layers, origin.origin)
    assert Path(image.path).read_bytes() == Path(origin.path).read_bytes()
    for diff_id in image.layers:
        assert target.store.layer(diff_id) == source.store.layer(diff_id)
    assert sound.faults(target.root) == [] and target.leftovers() == []


def test_what_was_imported_is_used_without_a_registry(source: Site, target: Site) -> None:
    target.read(source.write("lab/a:1"))
    for pull in ("always", "if-missing", "never"):
        target.settings.values["pull"] = pull
        assert supply.ensure(reference.parse("lab/a:1"), store=target.store, settings=target.settings)


def test_layers_are_carried_once_and_images_are_not(source: Site, target: Site) -> None:
    content = source.write("lab/a:1", "lab/b:1")
    assert len([name for name, _ in members(content) if name.startswith("layers/")]) == 6
    assert not any(name.startswith("images/") and name.endswith(".sqsh") for name, _ in members(content))
    assert [name for name, _ in target.read(content)] == ["docker.io/lab/a:1", "docker.io/lab/b:1"]


def test_gnu_tar_reads_and_writes_such_archives(source: Site, target: Site, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(source.write("lab/a:1"))
    (tmp_path / "x").mkdir()
    names = run("tar", "-tf", f"{tmp_path}/x.tar").split()
    run("tar", "-C", f"{tmp_path}/x", "-xf", f"{tmp_path}/x.tar")
    run("tar", "-C", f"{tmp_path}/x", "-cf", f"{tmp_path}/y.tar", *names)
    assert archive.is_archive(f"{tmp_path}/y.tar")
    assert len(target.read((tmp_path / "y.tar").read_bytes())) == 1


def test_an_image_without_all_its_layers_travels_as_its_file(
    source: Site, target: Site, tmp_path: Path
) -> None:
    shutil.copytree(source.root, tmp_path / "copy" / "store")
    partial = Site(tmp_path / "copy")
    image = next(one for one in partial.store.images() if one.reference == "docker.io/lab/a:1")
    partial.store.remove_layer(image.layers[0])
    content = partial.write("lab/a:1")
    assert not any(name.startswith("layers/") for name, _ in members(content))
    ((_, arrived),) = target.read(content)
    assert Path(arrived.path).read_bytes() == Path(image.path).read_bytes()


def test_layers_of_additional_stores_are_carried_along(source: Site, target: Site, tmp_path: Path) -> None:
    user = Site(tmp_path / "user")
    user.settings.values["additional_stores"] = (source.store.root,)
    assert [name for name, _ in target.read(user.write("lab/b:1"))] == ["docker.io/lab/b:1"]
    assert len(target.store.images()[0].layers) == 2 and not user.root.exists()


def test_the_only_image_may_be_given_another_name(source: Site, target: Site) -> None:
    assert target.read(source.write("lab/a:1"), rename="x/y:2")[0][0] == "docker.io/x/y:2"
    with pytest.raises(PinnaceError, match="cannot all be called"):
        target.read(source.write("lab/a:1", "lab/b:1"), rename="x/y:3")


def test_what_the_store_has_stays_as_it_is(source: Site, target: Site) -> None:
    content = source.write("lab/a:1")
    target.read(content)
    before = {path: path.stat().st_ino for path in target.root.glob("*/sha256/*")}
    target.read(content)
    assert {path: path.stat().st_ino for path in target.root.glob("*/sha256/*")} == before


def test_what_the_store_has_stays_for_the_import_whatever_is_cleaned_up(
    source: Site, target: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.read(source.write("lab/a:1"))
    real = archive._names

    def names(*arguments: Any) -> Any:
        """Called when all was read."""
        collect(target.store, Policy(max_age=0), None)
        return real(*arguments)

    monkeypatch.setattr(archive, "_names", names)
    target.read(source.write("lab/a:1", "lab/b:1"))
    assert len(target.store.listing()) == 2


def test_a_damaged_layer_is_not_exported(source: Site, tmp_path: Path) -> None:
    shutil.copytree(source.root, tmp_path / "copy" / "store")
    damaged = Site(tmp_path / "copy")
    path = next((damaged.root / "layers" / "sha256").glob("*.sqsh"))
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(PinnaceError, match="is damaged; `pinnace store repair`"):
        damaged.write("lab/a:1", "lab/b:1")


# Archives that are damaged or hostile


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Members], Members]:
    """Members of which the first whose name ends so is another."""

    def do(entries: Members) -> Members:
        place = next(number for number, (path, _) in enumerate(entries) if path.endswith(name))
        return [
            (path, change(body) if number == place else body) for number, (path, body) in enumerate(entries)
        ]

    return do


def record(**values: Any) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps({**json.loads(body), **values}).encode()


def every(start: str, change: Callable[[bytes], bytes]) -> Callable[[Members], Members]:
    """Members of which all records whose name starts so are others."""
    return lambda entries: [
        (path, change(body) if path.startswith(start) and path.endswith(".json") else body)
        for path, body in entries
    ]


def without(name: str) -> Callable[[Members], Members]:
    return lambda entries: [(path, body) for path, body in entries if not path.endswith(name)]


def hostile_layer(entries: Members) -> Members:
    """A layer that is no squashfs file, with a record that says what it is."""
    evil = b"evil" * 100
    digest = "sha256:" + hashlib.sha256(evil).hexdigest()
    position = next(n for n, (path, _) in enumerate(entries) if path.endswith(".sqsh"))
    described = json.loads(entries[position - 1][1])
    described.update(size=len(evil), sha256=digest)
    return [
        *entries[: position - 1],
        (entries[position - 1][0], json.dumps(described).encode()),
        (entries[position][0], evil),
        *entries[position + 1 :],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(".sqsh", lambda body: body[:200] + b"x" + body[201:]), "is not what its record says"),
        (changed(".sqsh", lambda body: body[:-1]), "has another size than its record"),
        (changed(".json", record(version=99)), "is of another version of Pinnace"),
        (lambda entries: entries[1:], "is no archive of a store"),
        (lambda entries: [], "it holds no image"),
        (without(".sqsh"), "is missing"),
        (lambda entries: [*entries, ("../../etc/x", b"1")], "does not belong into it"),
        (lambda entries: [*entries, ("/etc/x", b"1")], "does not belong into it"),
        (lambda entries: [*entries, ("layers/sha256/../../x.sqsh", b"1")], "does not belong into it"),
        (lambda entries: [*entries, entries[1]], "is no record"),
        (hostile_layer, "is no squashfs file"),
        (lambda entries: [*entries, ("references/9.json", b"[" * 100_000)], "is no record"),
        (lambda entries: [*entries, ("references/9.json", b"{}")], "is no record"),
        (lambda entries: [one for one in entries if not one[0].startswith("images/")], "it holds no image"),
        (every("layers/", record(block_size=4096)), "made with other settings"),
        (every("images/", record(digest=NOTHING)), "is no record"),
        (every("images/", record(config={"Cmd": ["a\0b"]})), "no list of strings"),
        (every("images/", record(platform="x\0y")), "is no platform"),
        (every("references/", record(reference="../../x")), "reference"),
        (every("references/", record(digest=NOTHING)), "is not in it"),
    ],
)
def test_archives_that_are_not_what_they_say_are_refused_as_a_whole(
    change: Callable[[Members], Members], message: str, source: Site, target: Site
) -> None:
    assert message in target.refuses(packed(change(members(source.write("lab/a:1")))))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_members_that_are_no_files_are_refused(kind: bytes, source: Site, target: Site) -> None:
    content = packed(members(source.write("lab/a:1")), **{"references/7.json": (kind, "/etc/passwd")})
    assert "does not belong into it" in target.refuses(content)


def test_an_archive_of_nothing_but_records_fills_no_memory(source: Site, target: Site) -> None:
    entries = members(source.write("lab/a:1"))
    more = [(f"references/{number}.json", entries[-1][1].ljust(15 << 20)) for number in range(10, 19)]
    assert "records have more than" in target.refuses(packed([*entries, *more]))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_an_archive_that_is_cut_short_is_refused(part: float, source: Site, target: Site) -> None:
    content = source.write("lab/a:1")
    assert "cut short" in target.refuses(content[: int(len(content) * part)])


def test_what_is_no_archive_is_refused(target: Site) -> None:
    assert "malformed" in target.refuses(os.urandom(4096))


def test_an_import_without_room_leaves_nothing(source: Site, tmp_path: Path) -> None:
    content = source.write("lab/a:1")
    small = tmp_path / "small"
    small.mkdir()
    for size in ("256k", "600k", "760k"):
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(small))
        try:
            assert "no space left" in Site(small).refuses(content)
        finally:
            run("umount", str(small))

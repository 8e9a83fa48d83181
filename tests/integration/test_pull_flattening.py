"""What an image holds is what an independent program makes of the same layers."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from integration.registry import Layout, run
from integration.trees import describe, directory, entry, hardlink, layer, symlink
from pinnace import digest
from pinnace.errors import ImageError
from pinnace.layers import Format, Limits, assemble, convert

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="trees are compared with root's eyes"),
]

FORM = Format()
ROOT = directory("./")


def flatten(layers: list[bytes], directory: Path) -> Path:
    """The squashfs file that Pinnace makes of ``layers``."""
    files = []
    for number, content in enumerate(layers):
        target = directory / f"{number}.sqsh"
        convert(iter([content]), digest.of_bytes(content), str(target), FORM, Limits())
        files.append(str(target))
    assemble(files, str(directory / "image.sqsh"), FORM)
    return directory / "image.sqsh"


def ours(layers: list[bytes], directory: Path) -> dict[str, tuple[object, ...]]:
    image = flatten(layers, directory)
    run("unsquashfs", "-q", "-n", "-d", str(directory / "ours"), str(image))
    return describe(directory / "ours")


def theirs(layers: list[bytes], directory: Path) -> dict[str, tuple[object, ...]]:
    layout = Layout(directory / "layout")
    for number, content in enumerate(layers):
        (directory / f"{number}.tar").write_bytes(content)
        layout.add_layer(directory / f"{number}.tar")
    return describe(layout.unpack(directory / "theirs"))


CASES = {
    "plain files": [[ROOT, directory("a"), entry("a/f", content=b"1"), entry("e"), symlink("l", "a/f")]],
    "files of many blocks": [
        [ROOT, entry("big", content=bytes(range(256)) * 4096), entry("tail", content=b"x" * 70000)]
    ],
    "overwritten files": [[ROOT, entry("f", content=b"old")], [ROOT, entry("f", content=b"new", mode=0o600)]],
    "whiteouts": [
        [ROOT, directory("d"), entry("d/f"), entry("g"), directory("gone"), entry("gone/x")],
        [ROOT, directory("d"), entry("d/.wh.f"), entry(".wh.g"), entry(".wh.gone")],
    ],
    "whiteouts of what is not there": [[ROOT, entry("f")], [ROOT, entry(".wh.nothing")]],
    "opaque directories": [
        [ROOT, directory("d"), entry("d/f"), directory("d/sub"), entry("d/sub/x")],
        [ROOT, directory("d", 0o700), entry("d/.wh..wh..opq"), entry("d/new")],
    ],
    "opaque directories with old names": [
        [ROOT, directory("d"), entry("d/f", content=b"1"), entry("d/g", content=b"1")],
        [ROOT, directory("d"), entry("d/.wh..wh..opq"), entry("d/f", content=b"2")],
    ],
    "a directory that becomes a file": [
        [ROOT, directory("x"), entry("x/f")],
        [ROOT, entry("x", content=b"f")],
    ],
    "a file that becomes a directory": [[ROOT, entry("x")], [ROOT, directory("x"), entry("x/f")]],
    "a file that becomes a symbolic link": [[ROOT, entry("x"), entry("y")], [ROOT, symlink("x", "y")]],
    "a symbolic link that becomes a directory": [
        [ROOT, directory("y"), entry("y/old"), symlink("x", "y")],
        [ROOT, directory("x"), entry("x/f")],
    ],
    "hard links": [
        [ROOT, entry("a", content=b"a" * 10), directory("d"), hardlink("d/b", "a"), hardlink("c", "./d/b")],
        [ROOT, entry("a", content=b"other")],
    ],
    "hard links into lower layers": [
        [ROOT, directory("d"), entry("d/f", content=b"lower")],
        [ROOT, hardlink("l", "d/f"), hardlink("m", "l")],
    ],
    "hard links of empty files": [[ROOT, entry("a"), hardlink("b", "a")]],
    "duplicate files": [
        [ROOT, entry("f", content=b"first"), entry("g"), entry("f", content=b"last" * 1000, mode=0o755)]
    ],
    "duplicate directories": [
        [
            ROOT,
            directory("d", 0o700),
            entry("d/f"),
            directory("d", 0o711, 5),
            entry("d/g"),
            directory("./", 0o701),
        ]
    ],
    "names that change their kind within a layer": [
        [
            ROOT,
            entry("x", content=b"f"),
            directory("x"),
            entry("x/in"),
            directory("y"),
            entry("y/in"),
            entry("y", content=b"y"),
        ]
    ],
    "hard links to duplicates": [
        [ROOT, entry("f", content=b"1"), entry("f", content=b"2"), hardlink("g", "f")]
    ],
    "entries below a symbolic link": [
        [
            ROOT,
            directory("usr"),
            directory("usr/lib"),
            symlink("lib", "usr/lib"),
            entry("lib/f", content=b"1"),
        ]
    ],
    "entries below an absolute symbolic link": [
        [ROOT, directory("usr"), symlink("u", "/usr"), entry("u/f", content=b"1")]
    ],
    "entries below a lower layer's symbolic link": [
        [ROOT, directory("usr"), directory("usr/lib"), symlink("lib", "usr/lib")],
        [ROOT, entry("lib/f", content=b"1")],
    ],
    "directories that the upper layer does not list": [
        [ROOT, directory("d", 0o700), directory("d/e", 0o711)],
        [ROOT, entry("d/e/f")],
    ],
    "a root without attributes": [[directory("./", 0o711, 7), entry("f")], [entry("g")]],
    "sticky directories": [[ROOT, directory("tmp", 0o1777), entry("su", mode=0o4755)]],
    "extended attributes": [
        [
            ROOT,
            entry("f", content=b"1", pax={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "x\ny=z"}),
            directory("d"),
        ]
    ],
    "long names": [
        [
            ROOT,
            directory("d" * 200),
            entry("d" * 200 + "/" + "f" * 250, content=b"1"),
            symlink("l", "t/" * 1500),
        ]
    ],
    "odd names": [[ROOT, entry("new\nline"), entry("umläut"), entry(" "), entry("-x"), entry("a b/c\\d")]],
    "fifos": [[ROOT, entry("p", tarfile.FIFOTYPE)]],
    "old and future times": [[ROOT, entry("o", mtime=0), entry("f", mtime=4_000_000_000)]],
    "many layers": [[ROOT, entry("f", content=b"%d" % number), entry(f"f{number}")] for number in range(12)],
}
#: Where umoci gives directories that nobody listed the time of unpacking, times can't be compared.
UNLISTED = {"directories that the upper layer does not list", "odd names"}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("case", CASES)
def test_an_image_equals_umocis_unpacking(case: str, form: int, tmp_path: Path) -> None:
    layers = [layer(entries, form) for entries in CASES[case]]
    mine, other = ours(layers, tmp_path), theirs(layers, tmp_path)
    if case in UNLISTED:
        mine = {name: (*facts[:2], None, *facts[3:]) for name, facts in mine.items()}
        other = {name: (*facts[:2], None, *facts[3:]) for name, facts in other.items()}
    assert mine == other


def test_names_that_are_not_utf8_are_kept_as_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    content = layer([ROOT, entry(name, content=b"1"), symlink("l", name)], tarfile.GNU_FORMAT)
    assert name in ours([content], tmp_path)


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    layers = [layer(entries) for entries in CASES["whiteouts"] + CASES["hard links"]]
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    one, two = (flatten(layers, tmp_path / str(number)).read_bytes() for number in (1, 2))
    assert one == two


def test_an_image_without_layers_is_empty(tmp_path: Path) -> None:
    assert list(ours([], tmp_path)) == ["."]


def test_devices_in_dev_are_left_out_with_links_to_them(tmp_path: Path) -> None:
    content = layer(
        [ROOT, directory("dev"), entry("dev/null", tarfile.CHRTYPE), hardlink("dev/zero", "dev/null")]
    )
    assert set(ours([content], tmp_path)) == {".", "dev"}


def test_capabilities_and_overlay_marks_are_left_out(tmp_path: Path) -> None:
    pax = {"SCHILY.xattr.security.capability": "x" * 20, "SCHILY.xattr.user.overlay.opaque": "y"}
    assert ours([layer([ROOT, entry("f", pax=pax)])], tmp_path)["f"][-1] == ()


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="l is a hard link to nothing, which is not in the image"):
        flatten([layer([ROOT, hardlink("l", "nothing")])], tmp_path)

"""Squashfs files of other programs, taken over without compressing anything again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pinnace
from integration.registry import run
from integration.trees import describe
from integration.views import kernel
from pinnace import digest
from pinnace import reference as references
from pinnace.errors import ImageError
from pinnace.layers import Format, foreign
from pinnace.sources.squash_file import SquashFileSource

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of several owners need root")

FORM = Format()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def packed(tree: Path, *options: str) -> Path:
    target = tree.with_name("theirs.sqsh")
    run(
        "mksquashfs", str(tree), str(target), "-comp", "zstd", "-quiet", "-no-progress", "-noappend", *options
    )
    return target


def adopted(tree: Path) -> Path:
    target = tree.with_name("layer.sqsh")
    foreign.adopt(str(packed(tree)), str(target))
    return target


def test_content_is_kept_and_owners_are_not(tree: Path, tmp_path: Path) -> None:
    (tree / "d/e").mkdir(parents=True)
    (tree / "d/f").write_bytes(os.urandom(400_000))
    (tree / "small").write_bytes(b"x")
    (tree / "l").symlink_to("d/f")
    os.link(tree / "small", tree / "d/e/link")
    os.mkfifo(tree / "p")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tree / "s"))
    for number, path in enumerate([tree, *sorted(tree.rglob("*"))]):
        os.lchown(path, 1000 + number, number % 3)
    with kernel(adopted(tree), tmp_path / "kernel") as place:
        assert describe(place) == describe(tree)
        assert {(path.lstat().st_uid, path.lstat().st_gid) for path in place.rglob("*")} == {(0, 0)}


def test_directories_of_any_group_keep_their_attributes(tree: Path, tmp_path: Path) -> None:
    """In a layer of our own the group would say that nothing lists the directory."""
    (tree / "d").mkdir(mode=0o700)
    for path in (tree, tree / "d"):
        os.chown(path, 1, 1)
    with kernel(adopted(tree), tmp_path / "kernel") as place:
        assert describe(place) == describe(tree)


def test_set_user_id_and_foreign_attributes_are_taken_away(tree: Path, tmp_path: Path) -> None:
    (tree / "f").write_bytes(b"")
    (tree / "f").chmod(0o6755)
    (tree / "d").mkdir()
    (tree / "d").chmod(0o3777)
    for name in ("user.kept", "user.overlay.opaque", "trusted.overlay.opaque"):
        os.setxattr(tree / "d", name, b"y")
    os.setxattr(tree / "f", "trusted.x", b"y")
    with kernel(adopted(tree), tmp_path / "kernel") as place:
        assert (place / "f").stat().st_mode & 0o7777 == 0o755
        assert (place / "d").stat().st_mode & 0o7777 == 0o1777
        assert os.listxattr(place / "d") == ["user.kept"] and os.listxattr(place / "f") == []


def test_devices_in_dev_are_left_out(tree: Path, tmp_path: Path) -> None:
    (tree / "dev/sub").mkdir(parents=True)
    os.mknod(tree / "dev/null", 0o020666, os.makedev(1, 3))
    os.mknod(tree / "dev/sub/sda", 0o060666, os.makedev(8, 0))
    with kernel(adopted(tree), tmp_path / "kernel") as place:
        assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["dev", "dev/sub"]


def test_devices_elsewhere_are_refused(tree: Path) -> None:
    (tree / "etc").mkdir()
    os.mknod(tree / "etc/mem", 0o020666, os.makedev(1, 1))
    with pytest.raises(ImageError, match="holds the device node etc/mem") as raised:
        adopted(tree)
    assert raised.value.identifier == "device-node"
    assert not tree.with_name("layer.sqsh").exists()


def test_names_that_mean_something_in_a_layer_are_refused(tree: Path) -> None:
    (tree / ".wh..wh.pinnace").mkdir()
    (tree / ".wh..wh.pinnace/index").write_text('[["link", "l", "etc/passwd"]]')
    with pytest.raises(ImageError, match="reserved name"):
        adopted(tree)


def test_a_file_that_is_compressed_otherwise_does_not_fit(tree: Path) -> None:
    assert foreign.fits(str(packed(tree)), FORM)
    assert not foreign.fits(str(packed(tree, "-b", "1M")), FORM)
    assert not foreign.fits(str(packed(tree)), Format(compressor="gzip"))


def test_small_files_are_read(tree: Path) -> None:
    (tree / "etc").mkdir()
    (tree / "etc/rc").write_text("exec true\n")
    (tree / "etc/environment").write_bytes(b"x" * 200)
    (tree / "etc/link").symlink_to("rc")
    with foreign.ForeignFile(str(packed(tree))) as file:
        wanted = frozenset((b"etc/rc", b"etc/environment", b"etc/link", b"etc/rc/below", b"no"))
        assert file.files(wanted, 100) == {b"etc/rc": b"exec true\n"}


def test_pull_takes_a_fitting_file_over_with_its_configuration(tree: Path, tmp_path: Path) -> None:
    (tree / "etc").mkdir()
    (tree / "etc/environment").write_text("PATH=/bin\n")
    (tree / "data").write_bytes(os.urandom(300_000))
    theirs = packed(tree)
    inspected = pulled(tmp_path, theirs)
    assert inspected["config"] == {"Env": ["PATH=/bin"]}
    assert inspected["layers"] == [digest.of_file(str(theirs))]
    with kernel(Path(inspected["path"]), tmp_path / "kernel") as place:
        assert describe(place) == describe(tree)


def test_pull_compresses_another_file_anew(tree: Path, tmp_path: Path) -> None:
    (tree / "data").write_bytes(os.urandom(300_000))
    theirs = packed(tree, "-b", "1M")
    inspected = pulled(tmp_path, theirs)
    assert inspected["layers"] != [digest.of_file(str(theirs))]
    with kernel(Path(inspected["path"]), tmp_path / "kernel") as place:
        assert describe(place) == describe(tree)


def test_a_file_that_changes_meanwhile_is_an_error(tree: Path, tmp_path: Path) -> None:
    (tree / "data").write_bytes(b"1")
    source = SquashFileSource(str(packed(tree)))
    image = source.resolve(references.parse("a"), "linux/amd64")
    (tree / "data").write_bytes(b"2")
    packed(tree)
    with pytest.raises(ImageError, match="was changed while it was read"):
        source.make(image, image.layers[0], str(tmp_path / "layer"))
    assert not (tmp_path / "layer").exists()


def pulled(place: Path, file: Path) -> dict[str, Any]:
    """What `pinnace inspect` tells of the file once it is pulled."""
    environment = {
        "HOME": str(place),
        "PATH": os.environ["PATH"],
        "PINNACE_STORE": str(place / "store"),
        "PYTHONPATH": str(Path(pinnace.__file__).parents[1]),
    }
    command = [sys.executable, "-c", "import sys; from pinnace.cli import main; sys.exit(main())"]
    for arguments in (["pull", "-q", str(file), "--name", "theirs"], ["inspect", "theirs"]):
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found

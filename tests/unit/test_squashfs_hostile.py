"""Squashfs files that a stranger could write: refused, at a cost that their size justifies."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import zstandard

from pinnace.errors import ImageError
from pinnace.layers import Format, assemble, tar, tree
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Superblock
from pinnace.squashfs.metadata import Damaged, decompressor, reference_of
from pinnace.squashfs.reader import SquashFile

BLOCK_SIZE = 4096


class Builder:
    """A squashfs file from inodes and listings that need not make sense."""

    def __init__(self) -> None:
        self.data = b""
        self.inodes = b""
        self.listings = b""
        self.fragments = b""
        #: The group of all inodes.
        self.group = 0

    def add(self, kind: int, body: bytes) -> int:
        """An inode; gives its position."""
        self.inodes += layout.INODE.pack(kind, 0o755, 0, 0, 0, 1) + body
        return len(self.inodes) - len(body) - layout.INODE.size

    def file(self, content: bytes = b"", blocks: int = 1) -> int:
        """A file of ``content``, or of ``blocks`` holes."""
        if not content:
            return self.add(
                layout.FILE,
                layout.BASIC_FILE.pack(0, layout.NONE, 0, blocks * BLOCK_SIZE) + bytes(4 * blocks),
            )
        start = layout.SUPERBLOCK.size + len(self.data)
        self.data += content
        body = layout.BASIC_FILE.pack(start, layout.NONE, 0, len(content))
        return self.add(layout.FILE, body + struct.pack("<I", len(content) | layout.STORED))

    def symlink(self, target: bytes) -> int:
        return self.add(layout.SYMLINK, layout.LINK.pack(1, len(target)) + target)

    def listing(self, *children: tuple[bytes, int, int]) -> tuple[int, int]:
        """Names, kinds and positions in a directory; gives the listing's position and length."""
        start = len(self.listings)
        for name, kind, position in children:
            block = reference_of(position) >> 16
            self.listings += layout.DIRECTORY_HEADER.pack(0, block, 1)
            self.listings += layout.DIRECTORY_ENTRY.pack(position % 8192, 0, kind, len(name) - 1) + name
        return start, len(self.listings) - start

    def directory(self, listing: tuple[int, int]) -> int:
        start, length = listing
        block, offset = reference_of(start) >> 16, start % 8192
        return self.add(layout.DIRECTORY, layout.BASIC_DIRECTORY.pack(block, 2, length + 3, offset, 1))

    def write(self, path: Path, top: int, **changes: int) -> str:
        """Write it to ``path`` with ``changes`` in the superblock."""
        content = bytearray(bytes(layout.SUPERBLOCK.size) + self.data)
        tables = []
        for text in (self.inodes, self.listings, self.fragments, struct.pack("<I", self.group)):
            tables.append(len(content))
            for start in range(0, len(text), 8192):
                block = text[start : start + 8192]
                content += struct.pack("<H", len(block) | 0x8000) + block
        content += layout.POSITION.pack(tables[2]) + layout.POSITION.pack(tables[3])
        superblock = Superblock.empty(6, BLOCK_SIZE)._replace(
            flags=layout.NO_XATTRS, ids=1, inodes=1, fragments=len(self.fragments) // 16,
            root=reference_of(top), size=len(content), inode_table=tables[0], directory_table=tables[1],
            fragment_table=len(content) - 16, id_table=len(content) - 8,
            export_table=layout.NO_TABLE, xattr_table=layout.NO_TABLE,
        )  # fmt: skip
        content[: layout.SUPERBLOCK.size] = superblock._replace(**changes).pack()
        path.write_bytes(content)
        return str(path)


@pytest.fixture
def build() -> Builder:
    return Builder()


def refused(path: str) -> str:
    target = path + ".image"
    with pytest.raises(ImageError) as caught:
        assemble([path], target, Format())
    assert not os.path.exists(target)
    return str(caught.value)


def test_what_the_builder_makes_is_read(build: Builder, tmp_path: Path) -> None:
    content = build.listing(
        (b"a", layout.FILE, build.file(b"x")), (b"l", layout.SYMLINK, build.symlink(b"a"))
    )
    path = build.write(tmp_path / "i", build.directory(content))
    assemble([path], f"{path}.image", Format())


def test_a_root_that_is_no_directory_is_refused(build: Builder, tmp_path: Path) -> None:
    assert "a directory is none" in refused(build.write(tmp_path / "i", build.file(b"x")))


def test_a_directory_in_itself_is_refused(build: Builder, tmp_path: Path) -> None:
    path = build.write(tmp_path / "i", build.directory(build.listing((b"a", layout.DIRECTORY, 0))))
    assert "two names" in refused(path)


def test_directories_that_share_a_listing_are_refused(build: Builder, tmp_path: Path) -> None:
    """A thousand directories with the same thousand names would be a million files."""
    shared = build.listing((b"f", layout.FILE, build.file(b"x")))
    children = [(b"d%d" % n, layout.DIRECTORY, build.directory(shared)) for n in range(100)]
    path = build.write(tmp_path / "i", build.directory(build.listing(*children)))
    assert "share a listing" in refused(path)


def test_names_of_one_block_list_that_counts_one_are_refused(build: Builder, tmp_path: Path) -> None:
    file = build.file(blocks=1000)
    names = [(b"f%d" % n, layout.FILE, file) for n in range(100)]
    assert "share their block lists" in refused(
        build.write(tmp_path / "i", build.directory(build.listing(*names)))
    )


def test_directories_deeper_than_any_path_are_refused(build: Builder, tmp_path: Path) -> None:
    below = build.directory(build.listing())
    for _ in range(2100):
        below = build.directory(build.listing((b"d", layout.DIRECTORY, below)))
    assert "too deep" in refused(build.write(tmp_path / "i", below))


@pytest.mark.parametrize("name", [b".", b"..", b"a/b", b"a\0", b"n" * 256])
def test_names_that_no_file_can_have_are_refused(name: bytes, build: Builder, tmp_path: Path) -> None:
    content = build.listing((name, layout.FILE, build.file(b"x")))
    assert "impossible name" in refused(build.write(tmp_path / "i", build.directory(content)))


def test_a_target_longer_than_any_path_is_refused(build: Builder, tmp_path: Path) -> None:
    content = build.listing((b"l", layout.SYMLINK, build.symlink(b"t" * 4096)))
    assert "impossible target" in refused(build.write(tmp_path / "i", build.directory(content)))


def test_data_outside_the_file_is_refused(build: Builder, tmp_path: Path) -> None:
    position = build.add(
        layout.FILE,
        layout.BASIC_FILE.pack(1 << 31, layout.NONE, 0, 5) + struct.pack("<I", 5 | layout.STORED),
    )
    path = build.write(tmp_path / "i", build.directory(build.listing((b"f", layout.FILE, position))))
    assert "outside the file" in refused(path)


@pytest.mark.parametrize("size", [0, BLOCK_SIZE])
def test_a_fragment_that_holds_nothing_is_refused(size: int, build: Builder, tmp_path: Path) -> None:
    """Linux refuses such a file, so that the image would have one that cannot be opened."""
    body = layout.BASIC_FILE.pack(0, 0, 0, size) + bytes(4)
    names = build.listing((b"f", layout.FILE, build.add(layout.FILE, body)))
    build.fragments = layout.FRAGMENT.pack(layout.SUPERBLOCK.size, 1, 0)
    assert "nothing in it" in refused(build.write(tmp_path / "i", build.directory(names)))


def test_a_file_of_holes_may_lie_anywhere(build: Builder, tmp_path: Path) -> None:
    holes = layout.EXTENDED_FILE.pack((1 << 64) - 1, 4096, 4096, 1, layout.NONE, 0, layout.NONE) + bytes(4)
    position = build.add(layout.FILE + layout.EXTENDED, holes)
    content = build.listing((b"f", layout.FILE, build.file(b"x")), (b"h", layout.FILE, position))
    path = build.write(tmp_path / "i", build.directory(content))
    assemble([path], f"{path}.image", Format())


@pytest.mark.parametrize(
    "changes",
    [
        {"block_size": 1 << 21},
        {"block_size": 3},
        {"compressor": 9},
        {"ids": 0},
        {"ids": 65535},
        {"root": 5 << 16},
        {"inode_table": 1 << 63},
        {"directory_table": 1},
        {"id_table": (1 << 64) - 2},
        {"fragments": 1},
        {"fragments": (1 << 32) - 1, "fragment_table": 96},
        {"xattr_table": (1 << 64) - 2},
        {"export_table": 1 << 62},
    ],
)
def test_superblocks_that_cannot_be_are_refused(
    changes: dict[str, int], build: Builder, tmp_path: Path
) -> None:
    refused(build.write(tmp_path / "i", build.directory(build.listing()), **changes))


def test_a_table_of_a_terabyte_of_holes_is_not_read(build: Builder, tmp_path: Path) -> None:
    path = build.write(
        tmp_path / "i", build.directory(build.listing()), directory_table=1 << 40, size=(1 << 40) + 1
    )
    os.truncate(path, 1 << 41)
    assert "too large" in refused(path)


@pytest.mark.parametrize(
    "actions",
    [
        [["put", "d", "x/../../y"]],
        [["put", "d", "/etc"]],
        [["put", "d", "x\0"]],
        [["put", "d", "n" * 256]],
        [["put", "d", "x"], ["put", "d", "x/y"]],
        [["put", "none", "x"]],
        [["put", "\ud800", "x"]],
        [["link", "x", ""]],
        [["link", "x", "../y"]],
        [["link", "../x", "y"]],
        [["put", "d"]],
        [["put", 1, 2]],
        [7],
        {"a": 1},
        "x",
    ],
)
def test_an_index_that_the_filter_does_not_write_is_refused(
    actions: object, build: Builder, tmp_path: Path
) -> None:
    refused(_with_index(build, tmp_path, json.dumps(actions).encode()))


@pytest.mark.parametrize("target", [b"n" * 300, b"a/" + b"n" * 256, b"n\0"])
def test_a_link_to_what_cannot_be_is_not_followed(target: bytes, build: Builder, tmp_path: Path) -> None:
    lower = build.write(
        tmp_path / "1", build.directory(build.listing((b"l", layout.SYMLINK, build.symlink(target))))
    )
    above = Builder()
    above.group = tar.IMPLICIT_GROUP  # as if the layer had l/f alone
    directory = above.directory(above.listing((b"f", layout.FILE, above.file(b"x"))))
    upper = above.write(tmp_path / "2", above.directory(above.listing((b"l", layout.DIRECTORY, directory))))
    assemble([lower, upper], str(tmp_path / "i"), Format())
    with SquashFile(str(tmp_path / "i")) as image:
        listed = {name: kind for name, kind, _ in image.listing(image.inode(image.root()))}
    assert listed[b"l"] == layout.DIRECTORY and max(map(len, listed)) <= 255


def _row(build: Builder, **instead: int) -> list[tuple[bytes, int, int]]:
    """Twenty names of files whose inodes follow one another, all but those in ``instead`` small."""
    build.data = bytes(range(100))
    build.fragments = layout.FRAGMENT.pack(layout.SUPERBLOCK.size, len(build.data) | layout.STORED, 0)
    names = []
    for number in range(20):
        name = f"f{number:02}"
        if name in instead:
            position = instead[name]
        else:
            position = build.add(layout.FILE, layout.BASIC_FILE.pack(0, 0, number, 5))
        names.append((name.encode(), layout.FILE, position))
    return names


def _contents(path: str) -> dict[bytes, bytes]:
    with SquashFile(path) as image:
        inodes = {name: image.inode(place) for name, _, place in image.listing(image.inode(image.root()))}
        return {name: image.read(inode.content, 1000) for name, inode in inodes.items() if inode.content}


@pytest.mark.parametrize(
    ("kind", "body", "content"),
    [
        (layout.FILE, layout.BASIC_FILE.pack(0, layout.NONE, 0, 0), b""),
        (layout.FILE, layout.BASIC_FILE.pack(96, layout.NONE, 0, 3) + b"\3\0\0\1", b"\0\1\2"),
        (
            layout.FILE + layout.EXTENDED,
            layout.EXTENDED_FILE.pack(0, 5, 0, 1, 0, 7, layout.NONE),
            b"\7\x08\x09\x0a\x0b",
        ),
    ],
)  # fmt: skip
def test_every_file_among_small_ones_keeps_its_bytes(
    kind: int, body: bytes, content: bytes, build: Builder, tmp_path: Path
) -> None:
    build.inodes = bytes(32 * 9)  # nine follow it in the row
    odd = build.add(kind, body)
    path = build.write(tmp_path / "i", build.directory(build.listing(*_row(build, f10=odd))))
    assemble([path], f"{path}.image", Format())
    found = _contents(f"{path}.image")
    assert found.pop(b"f10") == content
    assert found == {b"f%02d" % n: bytes(range(n, n + 5)) for n in range(20) if n != 10}


def test_an_inode_that_overlaps_small_ones_is_refused(build: Builder, tmp_path: Path) -> None:
    row = _row(build)
    row[10] = (b"f10", layout.FILE, row[10][2] + 4)
    refused(build.write(tmp_path / "i", build.directory(build.listing(*row))))


def test_a_small_file_that_another_layer_links_to_has_two_names(build: Builder, tmp_path: Path) -> None:
    lower = build.write(tmp_path / "1", build.directory(build.listing(*_row(build))))
    upper = _with_index(Builder(), tmp_path, json.dumps([["link", "again", "f10"]]).encode())
    assemble([lower, upper], str(tmp_path / "image"), Format())
    with SquashFile(str(tmp_path / "image")) as image:
        places = {name: place for name, _, place in image.listing(image.inode(image.root()))}
        assert places[b"again"] == places[b"f10"]
        assert image.inode(places[b"f10"]).names == 2
        assert image.inode(places[b"f11"]).names == 1
    assert _contents(str(tmp_path / "image"))[b"again"] == bytes(range(10, 15))


@pytest.mark.parametrize("count", [256, 1 << 31])
def test_more_names_behind_a_header_than_the_kernel_reads_are_refused(
    count: int, build: Builder, tmp_path: Path
) -> None:
    file = build.file(b"x")
    start, length = build.listing(*((b"f%03d" % n, layout.FILE, file) for n in range(300)))
    build.listings = layout.DIRECTORY_HEADER.pack(count, 0, 1) + build.listings[12:]
    assert "malformed" in refused(build.write(tmp_path / "i", build.directory((start, length))))


@pytest.mark.parametrize("limit", ["_MAX_STEPS", "_MAX_NAMES"])
def test_what_links_cost_has_a_limit(
    limit: str, build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _with_index(build, tmp_path, json.dumps([["put", "d", "a/" * 200 + "b"]]).encode())
    monkeypatch.setattr(tree, limit, 100)
    assert "lead too far" in refused(path)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 3000])
def test_an_index_that_is_no_json_is_refused(text: bytes, build: Builder, tmp_path: Path) -> None:
    refused(_with_index(build, tmp_path, text))


def _with_index(build: Builder, place: Path, text: bytes) -> str:
    aside = [(b"d", layout.DIRECTORY, build.directory(build.listing()))]
    if text:
        aside.append((b"index", layout.FILE, build.file(text)))
    else:
        aside.append((b"index", layout.FILE, build.file(blocks=1)))
    side = build.directory(build.listing(*aside))
    root = build.directory(build.listing((b".wh..wh.pinnace", layout.DIRECTORY, side)))
    return build.write(place / "i", root)


def test_blocks_that_unpack_to_more_than_a_block_can_are_refused() -> None:
    bomb = zstandard.compress(bytes(64 << 20))
    assert len(bomb) < 8192
    with pytest.raises(Damaged, match="too large"):
        decompressor("zstd")(bomb)
    honest = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    with pytest.raises(zstandard.ZstdError):
        decompressor("zstd")(honest)

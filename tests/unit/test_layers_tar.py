"""Tar headers and what a layer's entries become."""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from integration.trees import directory, entry, hardlink, layer, symlink
from pinnace.config import Settings
from pinnace.errors import ImageError, PinnaceError
from pinnace.layers import Limits, tar
from pinnace.layers import filter as filters
from pinnace.layers.decompression import decompressed
from pinnace.layers.filter import Filter
from pinnace.layers.stream import ByteStream, EndOfStream
from pinnace.layers.tar import Entry


def read(content: bytes) -> list[Entry]:
    stream = ByteStream(iter([content]))
    found = []
    for item in tar.entries(stream, "layer"):
        stream.skip(item.size + tar.padding(item.size))
        found.append(item)
    return found


def admitted(content: bytes) -> tuple[list[Entry], list[list[str]]]:
    """What tar2sqfs would get, and the actions in the index."""
    layer_filter = Filter("layer")
    given_on = [item for item in map(layer_filter.admit, read(content)) if item]
    return given_on, json.loads(layer_filter.index() or b"[]")


def refused(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        admitted(content)
    return str(caught.value)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(form: int) -> None:
    name = "/".join(["d" * 40] * 4)
    found = read(layer([entry(name, content=b"x" * 600, mode=0o4751, mtime=7)], form))
    assert [(item.path, item.mode, item.size, item.mtime) for item in found] == [
        (name.encode(), 0o4751, 600, 7)
    ]


@pytest.mark.parametrize("mtime", [-5, 1 << 40])
def test_times_are_brought_into_what_squashfs_can_say(mtime: int) -> None:
    assert 0 <= read(layer([entry("f", mtime=mtime)]))[0].mtime < 1 << 32


def test_an_archive_without_an_end_mark_is_read() -> None:
    assert len(read(layer([entry("f")])[:512])) == 1


@pytest.mark.parametrize("cut", [100, 600, 1100])
def test_an_archive_that_ends_within_an_entry_is_refused(cut: int) -> None:
    content = layer([entry("f", content=b"x" * 700)])[:cut]
    with pytest.raises((ImageError, EndOfStream)):
        read(content)


def test_a_wrong_checksum_is_refused() -> None:
    content = bytearray(layer([entry("f")]))
    content[0] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        read(bytes(content))


@pytest.mark.parametrize("kind", [b"S", b"M", b"D", b"Q"])
def test_kinds_that_cannot_be_kept_are_refused_by_name(kind: bytes) -> None:
    with pytest.raises(ImageError, match="odd"):
        read(layer([entry("odd", kind)]))


def test_sparse_files_of_pax_are_refused() -> None:
    with pytest.raises(ImageError, match="sparse"):
        read(layer([entry("f", pax={"GNU.sparse.major": "1"})]))


@given(st.binary(max_size=1536))
def test_any_bytes_are_an_archive_or_an_error(content: bytes) -> None:
    try:
        read(content)
    except (PinnaceError, EndOfStream):
        pass


@given(
    st.builds(
        Entry,
        path=st.binary(min_size=1, max_size=300).filter(lambda path: b"\0" not in path and path[-1:] != b"/"),
        kind=st.sampled_from([tar.FILE, tar.SYMLINK, tar.LINK, tar.FIFO]),
        mode=st.integers(0, 0o1777),
        size=st.just(0),
        mtime=st.integers(0, (1 << 32) - 2),
        link=st.binary(min_size=1, max_size=300).filter(lambda path: b"\0" not in path),
        group=st.just(0),
        xattrs=st.dictionaries(st.just(b"user.a"), st.binary(max_size=300)),
    )
)
def test_a_written_header_reads_back(item: Entry) -> None:
    assert read(tar.header(item)) == [item]


@pytest.mark.parametrize("size", [(1 << 33) - 1, 1 << 33, 1 << 40])
def test_sizes_beyond_octal_digits_read_back(size: int) -> None:
    stream = ByteStream(iter([tar.header(Entry(b"f", tar.FILE, size=size))]))
    assert next(tar.entries(stream, "layer")).size == size


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a/..", "a/" + "x" * 256])
def test_hostile_names_are_refused(name: str) -> None:
    assert "the name" in refused(layer([entry(name)]))


@pytest.mark.parametrize("target", ["../x", "a/../../x"])
def test_hard_links_that_leave_the_root_are_refused(target: str) -> None:
    assert "'..'" in refused(layer([hardlink("l", target)]))


def test_a_hard_link_to_a_directory_is_refused() -> None:
    assert "directory" in refused(layer([directory("d"), hardlink("l", "d")]))


def test_a_device_outside_dev_is_refused() -> None:
    assert "device node etc/null" in refused(layer([entry("etc/null", tarfile.CHRTYPE)]))


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_whiteouts_of_nothing_are_refused(name: str) -> None:
    assert "removes nothing" in refused(layer([entry(name)]))


def test_an_entry_below_a_file_is_refused() -> None:
    assert "no directory" in refused(layer([entry("f"), entry("f/x")]))


def test_symbolic_links_in_a_circle_are_refused() -> None:
    assert "too many" in refused(layer([symlink("a", "b"), symlink("b", "a"), entry("a/x")]))


def test_symbolic_links_cannot_lead_out_of_the_root() -> None:
    given_on, _ = admitted(layer([symlink("l", "../../../etc"), entry("l/passwd")]))
    assert given_on[-1].path == b"etc/passwd"


def test_our_own_place_cannot_be_forged() -> None:
    assert "reserved" in refused(layer([entry(".wh..wh.pinnace/index")]))
    assert admitted(layer([directory(".wh..wh.pinnace")])) == ([], [])


def test_our_own_place_cannot_be_forged_through_links() -> None:
    links = [symlink("l", "m"), symlink("m", ".wh..wh.pinnace"), entry("l/index", content=b"[]")]
    assert "reserved" in refused(layer(links))


def test_a_link_cannot_lead_to_a_name_that_no_file_can_have() -> None:
    assert "too long" in refused(layer([symlink("l", "n" * 256), entry("l/f")]))


def test_links_cannot_make_a_path_grow_without_end() -> None:
    assert "too long" in refused(layer([symlink("l", "x/" * 2000), entry("l/" + "y/" * 1900 + "f")]))


@pytest.mark.parametrize(
    ("limit", "entries"),
    [
        ("MAX_ENTRIES", [entry(f"{number}/a/b/c/d/f") for number in range(20)]),
        ("_MAX_NAMES", [entry(f"{number}/" + "d/" * 40 + "f") for number in range(2)]),
        ("_MAX_NAMES", [symlink(str(number), "t" * 90) for number in range(2)]),
        ("_MAX_XATTRS", [entry("f", pax={"SCHILY.xattr.user.a": "x" * 101})]),
        ("_MAX_OWN_XATTRS", [directory("./"), entry("f", pax={"SCHILY.xattr.user.a": "x" * 101})]),
        ("_MAX_LOOKS", [symlink("l", "a/../" * 19), *(entry(f"{name}/f") for name in "lmlmlm")]),
        ("_MAX_LOOKS", [entry("f"), entry("f"), *(entry("d/" * 9 + f"{n}/f") for n in range(3))]),
        ("_MAX_LOOKS", [item for _ in range(60) for item in (entry("a"), directory("a"), entry("a/f"))]),
    ],
)
def test_what_is_kept_in_memory_has_limits(
    limit: str, entries: list[tuple[tarfile.TarInfo, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, limit, 100)
    refused(layer(entries))


def test_records_that_say_nothing_of_a_file_are_not_kept() -> None:
    """A global header may have a hundred thousand, and all entries would copy them."""
    assert tar._pax(b"17 comment=nobody\n".replace(b"17", b"18") + b"10 path=a\n") == {b"path": b"a"}


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_attributes_of_one_entry_have_a_limit_together(kind: bytes) -> None:
    one = tar._extended(kind, b"22 comment=0123456789\n" * 30_000)
    with pytest.raises(ImageError, match="bytes of attributes"):
        read(one * 3 + tar.header(Entry(b"f", tar.FILE)))
    assert (
        len(read((tar._extended(b"L", b"n" * 600_000 + b"\0") + tar.header(Entry(b"", tar.FILE))) * 3)) == 3
    )


@pytest.mark.parametrize("name", ["user.", "user.a\0b", "user." + "n" * 251, "security.a", "user.overlay.a"])
def test_attributes_that_a_file_cannot_have_are_left_out(name: str) -> None:
    items = [entry("f", pax={f"SCHILY.xattr.{name}": "1", "SCHILY.xattr.user.b": "2"})]
    assert [item.xattrs for item in admitted(layer(items))[0]] == [{b"user.b": b"2"}]


def test_everything_belongs_to_root_without_its_special_bits() -> None:
    info, content = entry("su", mode=0o6755)
    info.uid = info.gid = 1000
    assert [(item.mode, item.group) for item in admitted(layer([(info, content)]))[0]] == [(0o755, 0)]


def test_a_duplicate_is_put_aside() -> None:
    given_on, actions = admitted(layer([entry("f"), entry("f", content=b"2")]))
    assert [item.path for item in given_on] == [b"f", b".wh..wh.pinnace/0"]
    assert actions == [["put", "0", "f"]]


def test_what_takes_the_place_of_a_directory_of_whiteouts_is_put_aside() -> None:
    given_on, actions = admitted(layer([entry("d/.wh.f"), entry("d")]))
    assert [item.path for item in given_on] == [b"d/.wh.f", b".wh..wh.pinnace/0"]
    assert actions == [["put", "0", "d"]]


def test_what_takes_the_place_of_a_directory_of_links_to_lower_layers_is_put_aside() -> None:
    """And so later than the links are made, as in the layer."""
    given_on, actions = admitted(layer([hardlink("d/l", "f"), symlink("d", "e")]))
    assert [item.path for item in given_on] == [b".wh..wh.pinnace/1"]
    assert actions == [["link", "d/l", "f"], ["put", "1", "d"]]


def test_a_hard_link_into_a_lower_layer_becomes_an_action() -> None:
    assert admitted(layer([hardlink("l", "/d/f")])) == ([], [["link", "l", "d/f"]])


@pytest.fixture(params=["isal", "zlib"])
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With isal, and as where it is not installed."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.usefixtures("inflate")
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_any_pieces_of_any_compression_give_the_content(compress: object, size: int) -> None:
    content = bytes(range(256)) * 40 + bytes(5000)
    compressed = compress(content)  # type: ignore[operator]
    assert b"".join(decompressed(pieces(compressed, size), "layer")) == content


@pytest.mark.usefixtures("inflate")
def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(32 << 20))
    assert max(map(len, decompressed(iter([bomb]), "layer"))) <= 1 << 20


@pytest.mark.usefixtures("inflate")
@pytest.mark.parametrize(
    "damage", [lambda blob: blob[:-30], lambda blob: blob[:40] + b"\xff" * 40 + blob[80:]]
)
def test_a_damaged_gzip_stream_is_an_error(damage: object) -> None:
    blob = damage(gzip.compress(bytes(range(256)) * 4000))  # type: ignore[operator]
    with pytest.raises(ImageError, match="cannot be decompressed"):
        b"".join(decompressed(iter([blob]), "layer"))


@pytest.mark.usefixtures("inflate")
def test_padding_after_a_gzip_stream_is_passed_over() -> None:
    assert b"".join(decompressed(iter([gzip.compress(b"x") + bytes(512)]), "layer")) == b"x"


@pytest.mark.parametrize(
    ("compressed", "ratio", "expected"),
    [
        (0, 250, Limits(4 << 30, "max_layer_ratio")),
        (10 << 20, 250, Limits((4 << 30) + 250 * (10 << 20), "max_layer_ratio")),
        (10 << 30, 250, Limits(64 << 30, "max_layer_size")),
        (0, 0, Limits(64 << 30, "max_layer_size")),
    ],
)
def test_a_layer_may_be_so_many_times_as_large_as_its_blob(
    compressed: int, ratio: int, expected: Limits
) -> None:
    settings = Settings({"max_layer_size": 64 << 30, "max_layer_ratio": ratio}, {})
    assert Limits.of(settings, compressed) == expected

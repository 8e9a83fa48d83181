"""Stacked stores: what is looked up where, and which stores are not relied on."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from eyes import Eyes
from pinnace import config
from pinnace.errors import ConfigurationError, StoreError
from pinnace.layers import Format, assemble
from pinnace.reference import parse
from pinnace.store import Image, Store
from pinnace.store.images import Layer, Resolution
from pinnace.store.stack import StackedStore

AMD = "linux/amd64"
ONE, TWO = ("sha256:" + number * 64 for number in "12")
LAYER = "sha256:" + "3" * 64
TAG = parse("h.io/a/b:1")


class Stack:
    """An own store and an additional one; what was told."""

    def __init__(self, base: Path) -> None:
        self.told: list[str] = []
        self.own, self.site = Store(str(base / "own")), Store(str(base / "site"))
        self.stack = StackedStore(self.own, [self.site.root], self.told.append)


@pytest.fixture
def stacked(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)


def put(path: str, content: bytes) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return Path(path)


def add(store: Store, digest: str, time: float, *, origin: str = "") -> None:
    """An image in ``store`` which TAG means since ``time``."""
    squash = put(store.image_path(digest), b"")
    assemble([], str(squash), Format())
    image = Image(digest, "", {}, AMD, squash.stat().st_size, (), "h.io/a/b:1", time)
    put(store.record_path(digest), image.to_json())
    resolution = Resolution(digest, digest, time, AMD, str(TAG), origin)
    put(store.resolution_path(TAG, AMD), resolution.to_json())


def add_layer(store: Store, *, block_size: int = 4096, size: int | None = None) -> None:
    squash = put(store.layer_path(LAYER), b"")
    assemble([], str(squash), Format(block_size=block_size))
    length = squash.stat().st_size if size is None else size
    put(store.layer_record_path(LAYER), Layer(LAYER, length, ONE, "zstd", block_size).to_json())


def found(stacked: Stack, ttl: float = 60) -> str | None:
    image = stacked.stack.lookup(TAG, AMD, ttl)
    return image.store if image else None


def test_an_image_of_an_additional_store_is_used_where_it_is(stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    assert found(stacked) == stacked.site.root
    assert stacked.stack.lookup(parse(f"x/y@{ONE}"), AMD, 0) == stacked.site.image(ONE)
    assert stacked.told == [] and not Path(stacked.own.root).exists()


@pytest.mark.parametrize(("own", "site", "wins"), [(995, 990, "own"), (990, 995, "site"), (990, 2000, "own")])
def test_the_newest_resolution_wins_but_for_one_from_the_future(
    own: float, site: float, wins: str, stacked: Stack
) -> None:
    add(stacked.own, ONE, own)
    add(stacked.site, TWO, site)
    for ttl in (60, float("inf")):
        assert found(stacked, ttl) == getattr(stacked, wins).root


def test_a_tag_of_an_additional_store_expires_as_well(stacked: Stack) -> None:
    add(stacked.site, ONE, 900)
    assert found(stacked) is None
    assert found(stacked, float("inf")) == stacked.site.root


def test_what_was_imported_into_an_additional_store_does_not_expire(stacked: Stack) -> None:
    add(stacked.site, ONE, 1, origin="tar:/x")
    assert found(stacked) == stacked.site.root


def test_a_tag_of_one_store_may_mean_an_image_in_another(stacked: Stack) -> None:
    add(stacked.site, ONE, 900)
    resolution = Resolution(ONE, ONE, 999, AMD, str(TAG))
    put(stacked.own.resolution_path(TAG, AMD), resolution.to_json())
    assert found(stacked) == stacked.site.root


def test_listings_say_which_store_an_image_is_in(stacked: Stack) -> None:
    add(stacked.own, ONE, 990)
    add(stacked.site, TWO, 995)
    listed = [(name, image.store) for name, image in stacked.stack.listing()]
    assert listed == [(str(TAG), stacked.own.root), (str(TAG), stacked.site.root)]


@pytest.mark.parametrize("part", ["", "images", "images/sha256", "references"])
def test_a_store_that_every_user_may_write_to_is_not_used(part: str, stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    Path(stacked.site.root, part).chmod(0o777)
    assert found(stacked) is None and found(stacked) is None
    assert len(stacked.told) == 1 and "every user may write to" in stacked.told[0]


def test_an_image_that_every_user_may_write_to_is_not_used(stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    Path(stacked.site.image_path(ONE)).chmod(0o666)
    assert found(stacked) is None and "every user may write to" in stacked.told[0]


def test_what_another_store_has_is_not_removed_and_that_is_told(stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    with pytest.raises(StoreError, match=f"it is in {stacked.site.root}, which is only read"):
        stacked.stack.remove(TAG)
    add(stacked.own, ONE, 990)
    assert stacked.stack.remove(TAG).image == ONE
    assert stacked.site.image(ONE) is not None and stacked.own.image(ONE) is None


def test_a_missing_store_is_told_once_when_it_is_needed(stacked: Stack) -> None:
    add(stacked.own, ONE, 990)
    assert found(stacked) == stacked.own.root and stacked.told == []
    assert stacked.stack.image(TWO) is None and list(stacked.stack.listing())
    assert stacked.told == [
        f"additional store {stacked.site.root}: it is not used: there is no such directory"
    ]


def test_a_store_that_cannot_be_read_is_told_once(
    stacked: Stack, tmp_path: Path, ordinary_eyes: Eyes
) -> None:
    add(stacked.site, ONE, 990)
    Path(stacked.site.root).chmod(0o700)
    with ordinary_eyes():
        assert stacked.stack.image(ONE) is None and stacked.stack.listing() == []
    assert len(stacked.told) == 1 and "cannot read" in stacked.told[0]


@pytest.mark.parametrize("damage", [b"", b"[]", b"\xff", b'{"digest": 1}'])
def test_damaged_records_count_as_missing(damage: bytes, stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    Path(stacked.site.record_path(ONE)).write_bytes(damage)
    assert found(stacked) is None
    Path(stacked.site.resolution_path(TAG, AMD)).write_bytes(damage)
    assert found(stacked) is None and stacked.told == []


def test_an_image_that_is_no_squashfs_file_is_not_used(stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    path = Path(stacked.site.image_path(ONE))
    path.write_bytes(bytes(path.stat().st_size))
    assert found(stacked) is None and "not a squashfs file" in stacked.told[0]


def test_a_directory_in_place_of_a_record_breaks_nothing(stacked: Stack) -> None:
    add(stacked.site, ONE, 990)
    Path(stacked.site.record_path(ONE)).unlink()
    Path(stacked.site.record_path(ONE)).mkdir()
    assert found(stacked) is None and "Is a directory" in stacked.told[0]


def test_layers_of_the_same_form_are_used_and_locked_against_removal(stacked: Stack) -> None:
    import fcntl

    add_layer(stacked.site)
    path = stacked.site.layer_path(LAYER)
    with ExitStack() as held, open(path, "rb") as remover:
        assert stacked.stack.layer_file(LAYER, Format(block_size=4096), held) == path
        with pytest.raises(BlockingIOError):
            fcntl.flock(remover, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.close()
        fcntl.flock(remover, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert stacked.stack.layer_file(LAYER, Format(block_size=4096), held) is None
    assert stacked.stack.has_layer(LAYER) and stacked.told == []


def test_layers_of_another_form_are_not_used(stacked: Stack) -> None:
    add_layer(stacked.site, block_size=8192)
    with ExitStack() as held:
        assert stacked.stack.layer_file(LAYER, Format(block_size=4096), held) is None
    assert "they were made with compressor = zstd, block_size = 8192" in stacked.told[0]


def test_layers_without_a_record_or_of_another_size_are_not_used(stacked: Stack) -> None:
    add_layer(stacked.site, size=5)
    with ExitStack() as held:
        assert stacked.stack.layer_file(LAYER, Format(block_size=4096), held) is None
        os.unlink(stacked.site.layer_record_path(LAYER))
        assert stacked.stack.layer_file(LAYER, Format(block_size=4096), held) is None


@pytest.mark.parametrize("value", ["relative", "/a:b", 5, ["x"]])
def test_additional_stores_are_absolute_paths(value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absolute path"):
        config.load({"HOME": "/h"}, directory=str(tmp_path)).set("additional_stores", value, "here")  # type: ignore[arg-type]


def test_additional_stores_come_as_a_list_or_separated_by_colons(tmp_path: Path) -> None:
    environment = {"HOME": "/h", "PINNACE_ADDITIONAL_STORES": "/a:/b:"}
    assert config.load(environment, directory=str(tmp_path))["additional_stores"] == ("/a", "/b")

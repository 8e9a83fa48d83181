"""Pins: which image is meant, and how long it stays pinned."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pinnace import locks
from pinnace.errors import PinnaceError, StoreError
from pinnace.layers import Format
from pinnace.reference import parse
from pinnace.sources import platforms
from pinnace.store import Image, Store, pins
from pinnace.store.build import workspace
from pinnace.store.images import Resolution
from pinnace.store.listing import entries

DIGEST = "sha256:" + "ab" * 32
NAME = "h.io/a/b:1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one image, and its tag."""
    store = Store(str(tmp_path / "store"))
    with workspace(store, Format()) as place:
        path = Path(store.image_path(DIGEST))
        path.parent.mkdir(parents=True)
        path.write_bytes(b"12345")
        image = Image(DIGEST, "", {}, platforms.host(), 5, (), NAME, 1.0)
        place.put(store.record_path(DIGEST), image.to_json())
        place.record(parse(NAME), Resolution(DIGEST, DIGEST, 1.0, platforms.host(), NAME))
    return store


@pytest.mark.parametrize("text", [NAME, DIGEST, "ab" * 32, "ab" * 6, f"h.io/x@{DIGEST}"])
def test_an_image_is_named_by_reference_digest_or_the_digits_that_are_listed(text: str, store: Store) -> None:
    assert pins.named(store, text) == DIGEST


@pytest.mark.parametrize("text", ["h.io/a/b:2", "cd" * 6, "Not A Name"])
def test_what_is_not_there_is_one_clear_error(text: str, store: Store) -> None:
    with pytest.raises(PinnaceError):
        pins.named(store, text)
    with pytest.raises(StoreError, match="is not in the store"):
        pins.pin(store, "sha256:" + "cd" * 32, text, Format())
    assert not Path(store.root, "pins").exists()


def test_a_pin_says_who_and_when(store: Store) -> None:
    pins.pin(store, DIGEST, NAME, Format())
    (path,) = Path(store.root, "pins").iterdir()
    facts = json.loads(path.read_text())
    assert path.name == "ab" * 32 and facts["reference"] == NAME and facts["user"] and facts["time"] > 1e9
    (entry,) = entries(store)
    assert entry.pinned and entry.pinned_by == facts["user"]


def test_a_pin_outlives_the_image(store: Store) -> None:
    pins.pin(store, DIGEST, NAME, Format())
    store.remove(parse(NAME))
    assert pins.is_pinned(store, DIGEST)
    assert pins.named(store, "ab" * 6) == DIGEST
    assert pins.unpin(store, DIGEST) and not pins.unpin(store, DIGEST)


@pytest.mark.parametrize("damage", [b"", b"[]", b"\xff", b'{"reference": 1}'])
def test_a_damaged_pin_is_a_pin(damage: bytes, store: Store) -> None:
    pins.pin(store, DIGEST, NAME, Format())
    Path(pins.path(store, DIGEST)).write_bytes(damage)
    assert pins.is_pinned(store, DIGEST) and entries(store)[0].pinned


def test_an_image_that_is_being_removed_is_not_pinned(store: Store) -> None:
    """Whoever removes it holds its lock."""
    failures: list[BaseException] = []

    def pin() -> None:
        try:
            pins.pin(store, DIGEST, NAME, Format())
        except StoreError as error:
            failures.append(error)

    with locks.held(store.lock_path("image", DIGEST)):
        thread = threading.Thread(target=pin)
        thread.start()
        Path(store.record_path(DIGEST)).unlink()
    thread.join()
    assert len(failures) == 1 and not pins.is_pinned(store, DIGEST)

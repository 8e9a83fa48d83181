"""Cleaning up after real pulls: the quota, and images of which a site has its own."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from integration import sound
from integration.faults import Front, packed
from integration.puller import Puller
from integration.trees import entry, layer
from pinnace.errors import StoreError
from pinnace.reference import parse
from pinnace.store import Store, collection
from pinnace.store.retention import Policy
from pinnace.store.stack import StackedStore

_RANDOM = random.Random(3)
_SHARED, *_OWN = (
    packed(layer([entry(name, content=_RANDOM.randbytes(200_000))]))
    for name in ("shared", "one", "two", "three")
)


@pytest.fixture
def images(front: Front) -> list[str]:
    """Three images of two layers, of which they share one: 400 KB each, and 200 KB a layer."""
    for number, own in enumerate(_OWN, 1):
        front.put("a/b", str(number), [_SHARED, own])
    return [f"{front.host}/a/b:{number}" for number in (1, 2, 3)]


def stored(puller: Puller) -> list[str]:
    return sorted(name.rpartition(":")[2] for name, _ in Store(str(puller.root)).listing())


def used(puller: Puller, name: str, seconds: float) -> None:
    store = Store(str(puller.root))
    path = next(image.path for reference, image in store.listing() if reference == str(parse(name)))
    os.utime(path, (seconds, seconds))
    record = Path(path).with_suffix(".json")
    record.write_text(record.read_text().replace('"created_at": ', '"created_at": 1, "was": '))


def test_a_pull_beyond_the_quota_makes_room_by_what_was_unused_for_longest(
    puller: Puller, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(images[:2]):
        puller.succeeds(name)
        used(puller, name, 5000 - 1000 * number)
    monkeypatch.setenv("PINNACE_GC_QUOTA", "1500K")
    monkeypatch.setenv("PINNACE_GC_LOW_WATER", "100%")
    puller.succeeds(images[2])
    assert stored(puller) == ["1", "3"]


def test_below_the_quota_a_pull_removes_nothing(
    puller: Puller, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNACE_GC_QUOTA", "1G")
    for name in images:
        puller.succeeds(name)
    assert stored(puller) == ["1", "2", "3"]


def test_a_quota_smaller_than_the_image_does_not_hinder_its_pull(
    puller: Puller, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNACE_GC_QUOTA", "1K")
    for name in images:
        puller.succeeds(name)
    assert stored(puller) == ["3"]
    told = [event["text"] for event in puller.events(images[0]) if event["event"] == "message"]
    assert "its quota is 1.0 KiB; images that stay: 1 in use" in told[-1]


def test_a_collection_that_fails_is_not_the_pulls_failure(
    puller: Puller, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("refused")

    monkeypatch.setenv("PINNACE_GC_QUOTA", "1K")
    monkeypatch.setattr(collection, "collect", fail)
    puller.succeeds(images[0])


def test_a_reference_to_an_image_of_an_additional_store_stays(puller: Puller, images: list[str]) -> None:
    puller.succeeds(images[0])
    own, site = Store(str(puller.root)), Store(str(puller.root.with_name("site")))
    shutil.copytree(own.root, site.root)
    collection.collect(own, Policy(max_age=0), None, StackedStore(own, [site.root]))
    assert own.images() == [] and [one.reference for one in own.resolutions()] == [str(parse(images[0]))]
    collection.collect(own, Policy(max_age=0), None)
    assert list(own.resolutions()) == []


def test_what_stays_is_sound(puller: Puller, images: list[str]) -> None:
    for name in images:
        puller.succeeds(name)
    before = sound.objects(puller.root)
    used(puller, images[1], 1000)
    report = collection.collect(Store(str(puller.root)), Policy(max_age=86400), None)
    assert report.layers == 1 and [image.references for image in report.images] == [[str(parse(images[1]))]]
    puller.check()
    assert sound.objects(puller.root).items() < before.items()
    puller.succeeds(images[1])
    assert sound.objects(puller.root) == before

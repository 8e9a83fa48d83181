"""Mirrors and pull-through caches: what one lacks, or gives wrong, comes from the next address."""

from __future__ import annotations

import gzip
import random
import tarfile
from collections.abc import Callable, Iterator

import pytest

from integration import faults
from integration.faults import Front, packed
from integration.puller import Puller
from integration.test_registry_behaviours import BLOB, CONFIG_DIGEST, FOREVER, LARGE, LAYERS, M
from integration.trees import entry, layer
from pinnace import digest


@pytest.fixture
def mirror(front: Front, puller: Puller) -> Iterator[Front]:
    """A mirror of ``front``; both have the image a/b:1."""
    with Front() as running:
        for each in (front, running):
            each.put("a/b", "1", LAYERS)
        puller.configure((front.host, f'mirrors = ["{running.url}"]'))
        yield running


def test_mirrors_are_asked_in_order_and_passed_over(puller: Puller, front: Front) -> None:
    front.put("a/b", "1", LAYERS)
    with Front() as empty, Front() as cache:
        cache.put("prefix/a/b", "1", LAYERS)
        mirrors = f'["http://127.0.0.1:1", "{empty.url}", "{cache.url}/prefix"]'
        puller.configure((front.host, f"mirrors = {mirrors}"))
        puller.succeeds(f"{front.host}/a/b:1")
        assert empty.seen and front.seen == []
        assert len(cache.paths("/v2/prefix/a/b/blobs/")) >= 3


@pytest.mark.parametrize(
    "fault", [faults.status(404), faults.status(500), faults.cut(1000), faults.status(401)]
)
def test_what_a_mirror_lacks_comes_from_the_registry(
    fault: faults.Fault, puller: Puller, front: Front, mirror: Front
) -> None:
    mirror.on(BLOB, fault, times=5)
    mirror.on(BLOB, faults.status(404), times=FOREVER)
    puller.succeeds(f"{front.host}/a/b:1")
    assert front.paths(M) == [] and front.paths(BLOB)


def test_the_error_is_the_registrys_if_no_mirror_helps(puller: Puller, front: Front, mirror: Front) -> None:
    mirror.on(M, faults.status(500), times=FOREVER)
    said = puller.fails(f"{front.host}/no/such:1")
    assert f"registry {front.host} has no image no/such" in said


def changed(at: int) -> Callable[[bytes], bytes]:
    return lambda blob: blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


#: Wrong content of a layer's blob, which shows at different places of a conversion.
LIES: dict[str, Callable[[bytes], bytes]] = {
    "the first byte": changed(0),
    "a byte in the middle": changed(100_000),
    "the last byte": lambda blob: changed(len(blob) - 1)(blob),
    "the same layer, compressed anew": lambda blob: gzip.compress(LARGE, 1, mtime=1),
    "no tar": lambda blob: gzip.compress(b"x" * 1024),
    "what is refused": lambda blob: layer([entry("sda", tarfile.BLKTYPE)]),
    "more": lambda blob: blob + b"x",
    "less": lambda blob: blob[:100_000],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_a_layer_that_a_mirror_gives_wrong_comes_from_the_registry(
    lie: Callable[[bytes], bytes], puller: Puller, front: Front, mirror: Front
) -> None:
    mirror.blobs[BLOB] = lie(mirror.blobs[BLOB])
    puller.succeeds(f"{front.host}/a/b:1")
    assert front.paths(M) == [] and set(front.paths("/blobs/")) == {f"/v2/a/b/blobs/{BLOB}"}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_who_gave_a_wrong_layer_is_named_if_nobody_has_the_right_one(
    lie: Callable[[bytes], bytes], puller: Puller, front: Front, mirror: Front
) -> None:
    mirror.blobs[BLOB] = front.blobs[BLOB] = lie(front.blobs[BLOB])
    said = puller.fails(f"{front.host}/a/b:1")
    # What a layer is refused for is told at once: that its bytes are wrong as well would be known at the end.
    assert f"blob {BLOB} of {front.host}/a/b is" in said or "device node" in said, said


@pytest.mark.parametrize("at", [0, 3 << 20, -1])
def test_a_large_layer_that_a_mirror_gives_wrong_comes_from_the_registry(
    at: int, puller: Puller, front: Front, mirror: Front
) -> None:
    """A process of its own converts it."""
    large = packed(layer([entry("data", content=random.Random(1).randbytes(6 << 20))]))
    for each in (front, mirror):
        each.put("a/b", "2", [large])
    digest_of_large = faults.digest_of(large[0])
    mirror.blobs[digest_of_large] = changed(at % len(large[0]))(large[0])
    puller.succeeds(f"{front.host}/a/b:2")
    assert front.paths(digest_of_large)


def test_a_configuration_that_a_mirror_gives_wrong_comes_from_the_registry(
    puller: Puller, front: Front, mirror: Front
) -> None:
    mirror.blobs[CONFIG_DIGEST] = changed(9)(mirror.blobs[CONFIG_DIGEST])
    puller.succeeds(f"{front.host}/a/b:1")
    assert len(front.seen) == 1


def test_a_manifest_that_a_mirror_gives_wrong_comes_from_the_registry(
    puller: Puller, front: Front, mirror: Front
) -> None:
    mirror.on(M, faults.body(lambda content: content + b" "), times=FOREVER)
    puller.succeeds(f"{front.host}/a/b:1")
    assert len(front.seen) == 1


def test_a_mirror_that_gives_wrong_bytes_is_named(puller: Puller, front: Front, mirror: Front) -> None:
    mirror.blobs[BLOB] = changed(100_000)(mirror.blobs[BLOB])
    events = puller.events(f"{front.host}/a/b:1")
    said = [event["text"] for event in events if event["event"] == "message"]
    assert [line for line in said if f"mirror {mirror.host} is passed over for {digest.short(BLOB)}" in line]


def test_wrong_bytes_of_a_mirror_that_then_fails_do_not_spoil_those_of_the_next(
    puller: Puller, front: Front, mirror: Front
) -> None:
    with Front() as second:
        second.put("a/b", "1", LAYERS)
        puller.configure((front.host, f'mirrors = ["{mirror.url}", "{second.url}"]'))
        mirror.blobs[BLOB] = changed(9)(mirror.blobs[BLOB])
        mirror.on(BLOB, faults.cut(20_000))
        mirror.on(BLOB, faults.status(404), times=FOREVER)
        puller.succeeds(f"{front.host}/a/b:1")
        assert front.seen == []


def test_a_layer_that_is_refused_at_its_end_is_not_fetched_again(
    puller: Puller, front: Front, mirror: Front
) -> None:
    (blob, _, kind) = LAYERS[1]
    for each in (front, mirror):
        each.put("a/b", "2", [(blob, b"what the configuration claims", kind)])
    said = puller.fails(f"{front.host}/a/b:2")
    assert "is damaged: its content has digest" in said and "passed over" not in said
    assert front.seen == []


def test_an_image_that_is_refused_is_so_whoever_gives_it(puller: Puller, front: Front, mirror: Front) -> None:
    for each in (front, mirror):
        each.put("a/b", "2", [packed(layer([entry("sda", tarfile.BLKTYPE)]))])
    assert "device node" in puller.fails(f"{front.host}/a/b:2")

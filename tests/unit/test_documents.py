"""JSON that strangers wrote."""

from __future__ import annotations

import json

import pytest

from pinnace import documents
from pinnace.store.images import Image

_DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize("depth", [65, 500, 100_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_what_is_nested_too_deeply_is_refused(depth: int, begin: str, end: str) -> None:
    with pytest.raises(ValueError, match="nested"):
        documents.parse((begin * depth + "0" + end * depth).encode())


def test_what_is_wide_is_read() -> None:
    content = json.dumps([[{"a": [1]}]] * 1000).encode()
    assert len(documents.parse(content)) == 1000


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1,]"])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        documents.parse(content)


def test_every_configuration_that_is_read_can_be_recorded() -> None:
    labels: object = "deep"
    for _ in range(60):
        labels = {"a": labels}
    image = Image(_DIGEST, "i", {"Labels": labels}, "linux/amd64", 1, (), "a", 1.0)
    assert Image.from_json(image.to_json(), "i") == image

"""An independent registry, Pulp: tokens, redirected layers, ranges, private repositories, indexes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import pulp
from integration.authority import basic
from integration.certificates import Authority
from integration.faults import INDEX, MANIFEST, digest_of, image_parts, packed
from integration.puller import Puller
from integration.pulp import Pulp
from integration.trees import entry, layer

LARGE = packed(layer([entry("data", content=os.urandom(4 << 20))]))
SMALL = packed(layer([entry("etc/os-release", content=b"NAME=Test\n")]))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulp]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    layouts = tmp_path_factory.mktemp("layouts")
    one, index = layout(layouts / "one"), layout(layouts / "index", "amd64", "arm64")
    with (
        pulp.postgres() as database,
        Pulp(tmp_path_factory.mktemp("pulp"), authority, database) as running,
    ):
        for name in ("public", "private"):
            running.push(one, "1", f"lab/{name}:1")
        running.push(index, "1", "lab/index:1", "--all")
        running.make_private("lab/private")
        yield running


@pytest.fixture
def client(puller: Puller, registry: Pulp, monkeypatch: pytest.MonkeyPatch) -> Puller:
    """A user who knows the registry's authority."""
    monkeypatch.setenv("PINNACE_STALL_TIMEOUT", "60")
    lines = f'ca = "{registry.authority.ca}"'
    puller.configure((registry.host, lines), (registry.content_host, lines))
    return puller


def layout(place: Path, *architectures: str) -> Path:
    """An OCI layout of an image with the tag 1, or of an index of one for each of ``architectures``."""
    offers = []
    contents = [LARGE[0], SMALL[0]]
    for architecture in architectures or ("amd64",):
        config, manifest = image_parts([LARGE, SMALL], configuration={"architecture": architecture})
        contents += [config, manifest]
        platform = {"os": "linux", "architecture": architecture}
        offers.append({**descriptor(MANIFEST, manifest), "platform": platform})
    if architectures:
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": offers}).encode()
        contents.append(index)
        offers = [descriptor(INDEX, index)]
    tagged = [{**offers[0], "annotations": {"org.opencontainers.image.ref.name": "1"}}]
    blobs = place / "blobs/sha256"
    blobs.mkdir(parents=True)
    for content in contents:
        (blobs / digest_of(content).partition(":")[2]).write_bytes(content)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": tagged}))
    return place


def descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}


def test_a_public_image_is_pulled_with_an_anonymous_token(client: Puller, registry: Pulp) -> None:
    client.succeeds(f"{registry.host}/lab/public:1")


def test_a_large_layer_comes_in_ranges(client: Puller, registry: Pulp) -> None:
    before = len(registry.layer_answers())
    client.succeeds(f"{registry.host}/lab/public:1")
    assert any(line.endswith(" 206") for line in registry.layer_answers()[before:])


def test_a_layer_that_is_cut_is_resumed(client: Puller, registry: Pulp) -> None:
    registry.relay.cuts += [300_000] * 4
    client.succeeds(f"{registry.host}/lab/public:1")
    registry.relay.cuts.clear()
    assert registry.relay.cut >= 1


def test_a_private_image_takes_the_right_password(client: Puller, registry: Pulp) -> None:
    file = client.configuration.parents[2] / ".docker" / "config.json"
    file.parent.mkdir()
    reference = f"{registry.host}/lab/private:1"
    assert "401" in client.fails(reference)
    for password in ("wrong", pulp.PASSWORD):
        file.write_text(json.dumps({"auths": {registry.host: {"auth": basic("admin", password)}}}))
        if password == "wrong":
            assert "rejects user admin from ~/.docker/config.json" in client.fails(reference)
    client.succeeds(reference)


def test_an_index_gives_the_image_for_this_machine(client: Puller, registry: Pulp) -> None:
    client.succeeds(f"{registry.host}/lab/index:1")


def test_what_is_not_there_is_named(client: Puller, registry: Pulp) -> None:
    assert "lab/public" in client.fails(f"{registry.host}/lab/public:2")

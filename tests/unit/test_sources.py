"""Manifests, indexes, configurations and platforms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.errors import ImageError, PinnaceError
from pinnace.registry.client import RawManifest
from pinnace.sources import manifests, platforms

DIGEST = "sha256:" + "1" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 3}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}
CONFIGURATION: dict[str, Any] = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIGEST]}}
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def raw(document: object, media_type: str = "") -> RawManifest:
    return RawManifest(json.dumps(document).encode(), media_type, DIGEST)


def offer(platform: str) -> manifests.Descriptor:
    return manifests.Descriptor("", "sha256:" + platform, 1, platform)


def test_a_manifest_is_read() -> None:
    manifest = manifests.parse_manifest(raw(IMAGE), "x")
    assert [layer.size for layer in manifest.layers] == [3]


def test_an_index_is_told_from_an_image() -> None:
    assert not manifests.is_index(raw(IMAGE), "x")
    assert manifests.is_index(raw({"schemaVersion": 2, "manifests": []}, INDEX_TYPE), "x")


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        ({"schemaVersion": 1}, "", "schema 1"),
        ({**IMAGE, "manifests": []}, "", "index and an image"),
        (IMAGE, INDEX_TYPE, "its content is not"),
        ([], "", "no JSON object"),
    ],
)
def test_what_cannot_be_told_is_refused(document: object, media_type: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        manifests.is_index(raw(document, media_type), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": None}, "no object"),
        ({"config": {**CONFIG, "mediaType": "application/x"}}, "not a container image but application/x"),
        ({"artifactType": "application/y", "config": {**CONFIG, "mediaType": "e"}}, "but application/y"),
        ({"layers": [{**LAYER, "mediaType": "application/z+encrypted"}]}, "application/z.encrypted"),
        ({"layers": [{**LAYER, "digest": "md5:1"}]}, "no sha256 digest"),
        ({"layers": [{**LAYER, "digest": "sha256:../../x"}]}, "no sha256 digest"),
        ({"layers": [{**LAYER, "size": -1}]}, "size"),
        ({"layers": [{**LAYER, "size": True}]}, "size"),
        ({"layers": [LAYER] * 2000}, "2000 layers"),
        ({"layers": "x"}, "missing"),
    ],
)
def test_bad_manifests_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        manifests.parse_manifest(raw({**IMAGE, **change}), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rootfs": None}, "diff_ids"),
        ({"rootfs": {"diff_ids": ["sha256:x"]}}, "diff_ids"),
        ({"os": None}, "platform"),
        ({"config": []}, "no object"),
        ({"config": {"Env": ["A=\0"]}}, "Env"),
        ({"config": {"Env": ["A=\ud800"]}}, "Env"),
        ({"config": {"WorkingDir": "/\udc80"}}, "WorkingDir"),
        ({"config": {"Cmd": "sh"}}, "Cmd"),
        ({"config": {"WorkingDir": 1}}, "WorkingDir"),
        ({"config": {"Volumes": ["/data"]}}, "Volumes"),
        ({"config": {"Volumes": {"/\udc80": {}}}}, "Volumes"),
    ],
)
def test_bad_configurations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        manifests.parse_configuration(json.dumps({**CONFIGURATION, **change}).encode(), "x")


def test_a_configuration_without_a_config_is_an_empty_one() -> None:
    content = json.dumps({**CONFIGURATION, "config": None}).encode()
    assert manifests.parse_configuration(content, "x").config == {}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"config": {**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "a Helm chart"),
        ({"layers": [{**LAYER, "mediaType": "application/vnd.in-toto+json"}]}, "an attestation"),
        (
            {"layers": [{**LAYER, "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}]},
            "a cosign signature",
        ),
        (
            {"config": {**CONFIG, "mediaType": "application/vnd.sylabs.sif.config.v1+json"}},
            "a Singularity image",
        ),
        (
            {
                "artifactType": "application/vnd.cncf.notary.signature",
                "config": {**CONFIG, "mediaType": "application/vnd.oci.empty.v1+json"},
            },
            "a notary signature",
        ),
    ],
)
def test_what_is_no_image_is_named(change: dict[str, Any], what: str) -> None:
    with pytest.raises(ImageError, match=f"not a container image but {what}") as caught:
        manifests.parse_manifest(raw({**IMAGE, **change}), "x")
    assert caught.value.identifier == "not-an-image"


def test_foreign_layers_are_named() -> None:
    foreign = {**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    with pytest.raises(ImageError, match="a foreign layer"):
        manifests.parse_manifest(raw({**IMAGE, "layers": [foreign]}), "x")


def test_an_index_of_nothing_but_attestations_is_no_image() -> None:
    with pytest.raises(ImageError, match="not a container image but a list of attestations"):
        manifests.select([offer("unknown/unknown")], "linux/amd64", "x")


def test_signed_schema_1_is_refused_by_its_type() -> None:
    with pytest.raises(ImageError, match="schema 1"):
        manifests.is_index(raw({}, "application/vnd.docker.distribution.manifest.v1+prettyjws"), "x")


KEYS = st.sampled_from(["config", "layers", "manifests", "digest", "size", "mediaType", "platform"])
LEAVES = st.none() | st.integers() | st.text(max_size=5)


@given(st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner | st.lists(inner))))
def test_any_json_is_a_manifest_or_an_error(document: object) -> None:
    for parse in (manifests.is_index, manifests.parse_index, manifests.parse_manifest):
        try:
            parse(raw(document), "x")
        except PinnaceError:
            pass


@pytest.mark.parametrize(
    ("offers", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", "linux/arm/v7"),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (
            ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4", "linux/amd64/v3"],
            "linux/amd64/v3",
            "linux/amd64/v3",
        ),
        (["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v3", "linux/amd64/v2"),
        (["linux/amd64", "linux/amd64/v4"], "linux/amd64/v3", "linux/amd64"),
        (["linux/amd64/v1"], "linux/amd64", "linux/amd64/v1"),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", "linux/arm/v6"),
        (["linux/arm/v6", "linux/arm"], "linux/arm/v7", "linux/arm"),
        (["linux/arm64/v8", "linux/arm64/v9"], "linux/arm64", "linux/arm64/v8"),
        (["linux/arm64"], "linux/arm64/v9", "linux/arm64"),
    ],
)
def test_the_best_platform_is_chosen(offers: list[str], wanted: str, chosen: str) -> None:
    assert manifests.select([offer(platform) for platform in offers], wanted, "x").platform == chosen


@pytest.mark.parametrize(
    "offers", [["linux/arm64", "unknown/unknown"], ["linux/amd64/v3"], ["windows/amd64"]]
)
def test_without_a_fitting_platform_those_there_are_named(offers: list[str]) -> None:
    with pytest.raises(ImageError, match=f"it is for {offers[0]}\\)"):
        manifests.select([offer(platform) for platform in offers], "linux/amd64", "x")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("arm64", "linux/arm64"),
        ("x86_64", "linux/amd64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("arm/v6", "linux/arm/v6"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms_may_be_written_short(text: str, platform: str) -> None:
    assert platforms.parse(text) == platform


@pytest.mark.parametrize("text", ["", "a b", "../x", "linux/", "linux/a/b/c"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(PinnaceError, match="is no platform"):
        platforms.parse(text)

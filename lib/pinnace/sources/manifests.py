"""Manifests, indexes and image configurations: JSON from strangers, turned into checked values.

OCI image specification 1.1 and Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pinnace import digest as digests
from pinnace import documents
from pinnace.errors import ImageError
from pinnace.sources import platforms

_INDEX_TYPES = frozenset(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_CONFIG_TYPES = frozenset(
    ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
)
_LAYER_TYPES = frozenset(
    "application/vnd." + name
    for name in (
        "oci.image.layer.v1.tar",
        "oci.image.layer.v1.tar+gzip",
        "oci.image.layer.v1.tar+zstd",
        "oci.image.layer.nondistributable.v1.tar",
        "oci.image.layer.nondistributable.v1.tar+gzip",
        "oci.image.layer.nondistributable.v1.tar+zstd",
        "docker.image.rootfs.diff.tar",
        "docker.image.rootfs.diff.tar.gzip",
        "docker.image.rootfs.diff.tar.zstd",
    )
)
_SCHEMA_1 = frozenset(
    "application/vnd.docker.distribution.manifest.v1+" + kind for kind in ("json", "prettyjws")
)
#: What registries hold besides images, by how the types of their configuration or layers begin.
_ARTEFACTS = {
    "application/vnd.cncf.helm.": "a Helm chart",
    "application/vnd.in-toto": "an attestation",
    "application/vnd.dev.cosign.": "a cosign signature",
    "application/vnd.dev.sigstore.": "a sigstore signature",
    "application/vnd.cncf.notary.": "a notary signature",
    "application/vnd.sylabs.sif.": "a Singularity image",
    "application/vnd.docker.plugin.": "a Docker plugin",
    "application/vnd.buildkit.cache": "a BuildKit cache",
    "application/vnd.ollama.": "an Ollama model",
    "application/vnd.wasm.": "a WebAssembly module",
    "application/vnd.module.wasm.": "a WebAssembly module",
    "application/vnd.cyclonedx": "a bill of materials",
    "application/spdx": "a bill of materials",
}
_FOREIGN = "application/vnd.docker.image.rootfs.foreign."
#: Bytes. The distribution specification asks registries to take 4 MiB.
MAX_MANIFEST = 8 << 20
#: Bytes. Configurations grow with the history of a build; tens of KiB are usual.
MAX_CONFIG = 8 << 20
#: Docker makes at most 127; other builders go on.
MAX_LAYERS = 1024


class RawManifest(Protocol):
    """A manifest or index as its source has it; ``digest`` was computed from ``content``."""

    @property
    def content(self) -> bytes: ...

    @property
    def media_type(self) -> str: ...

    @property
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Descriptor:
    """A pointer to content: OCI image specification, "Content Descriptors". ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)


class Manifest(NamedTuple):
    """An image manifest: the configuration and the layers from the bottom up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Configuration(NamedTuple):
    """What Pinnace uses of an image configuration."""

    platform: str
    config: dict[str, Any]
    diff_ids: tuple[str, ...]


def is_index(raw: RawManifest, name: str) -> bool:
    """Whether ``raw`` is an index. Raises ImageError if it is neither that nor an image manifest."""
    document = _document(raw.content, f"the manifest of {name}")
    if document.get("schemaVersion") == 1 or raw.media_type in _SCHEMA_1:
        raise ImageError(
            f"{name} has a manifest of schema 1, which is obsolete",
            hint="push it again with a current tool",
            identifier="unsupported-manifest",
        )
    # A document that can be read both ways means two images under one digest (CVE-2021-41190).
    if "manifests" in document and ("layers" in document or "config" in document):
        raise _malformed(name, "it is an index and an image at the same time")
    declared = str(document.get("mediaType") or raw.media_type)
    index = "manifests" in document
    if declared and index != (declared in _INDEX_TYPES):
        raise _malformed(name, f"its type is {declared}, its content is not")
    return index


def parse_index(raw: RawManifest, name: str) -> list[Descriptor]:
    """The manifests that an index offers. Raises ImageError."""
    entries = _document(raw.content, f"the index of {name}").get("manifests")
    if not isinstance(entries, list):
        raise _malformed(name, "manifests is no list")
    return [_descriptor(entry, name) for entry in entries]


def select(offers: list[Descriptor], platform: str, name: str) -> Descriptor:
    """The best offer for ``platform``. Raises ImageError with the platforms that there are."""
    fitting = [offer for offer in offers if platforms.matches(offer.platform, platform)]
    if fitting:
        return min(fitting, key=lambda offer: platforms.rank(offer.platform, platform))
    known = sorted({offer.platform for offer in offers if not offer.platform.startswith("unknown")} - {""})
    # BuildKit's attestations are listed as manifests for the platform unknown/unknown.
    if offers and not known and any(offer.platform for offer in offers):
        raise _no_image(name, "a list of attestations")
    raise other_platform(name, platform, known)


def parse_manifest(raw: RawManifest, name: str) -> Manifest:
    """Raises ImageError if ``raw`` is no manifest of a container image."""
    document = _document(raw.content, f"the manifest of {name}")
    if "config" not in document or not isinstance(document.get("layers"), list):
        raise _malformed(name, "config or layers is missing")
    config = _descriptor(document["config"], name)
    if config.media_type not in _CONFIG_TYPES:
        kind = str(document.get("artifactType") or config.media_type)
        raise _no_image(name, _artefact(kind) or _artefact(config.media_type), kind)
    layers = tuple(_descriptor(layer, name) for layer in document["layers"])
    if len(layers) > MAX_LAYERS:
        raise _malformed(name, f"it has {len(layers)} layers, {MAX_LAYERS} are the limit")
    for layer in layers:
        kind = _artefact(layer.media_type)
        if kind:  # signatures and attestations have the configuration of an image
            raise _no_image(name, kind, layer.media_type)
        if layer.media_type.startswith(_FOREIGN):
            raise ImageError(
                f"{name} has a foreign layer, which its registry does not hold",
                context=layer.media_type,
                hint="only Windows images have such layers",
                identifier="unsupported-layer",
            )
        if layer.media_type not in _LAYER_TYPES:
            raise ImageError(
                f"{name} has a layer of type {layer.media_type}, which cannot be read",
                hint="tar, gzip and zstd layers are supported",
                identifier="unsupported-layer",
            )
    return Manifest(config, layers)


def parse_configuration(content: bytes, name: str) -> Configuration:
    """Raises ImageError if ``content`` is no image configuration."""
    document = _document(content, f"the configuration of {name}")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(digests.is_digest(diff_id) for diff_id in diff_ids):
        raise _malformed(name, "its configuration has no rootfs.diff_ids")
    parts = [document.get(key) for key in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) and part for part in parts[:2]):
        raise _malformed(name, "its configuration names no platform")
    platform = "/".join(str(part) for part in parts if part)
    return Configuration(platform, _checked_config(document.get("config"), name), tuple(diff_ids))


def other_platform(name: str, wanted: str, offered: list[str]) -> ImageError:
    """The error for an image that there is for other platforms only."""
    have = ", ".join(offered) or "none"
    return ImageError(
        f"{name} is not for {wanted}",
        context=f"it is for {have}",
        hint="choose another image, or name the platform with --platform",
        identifier="other-platform",
    )


def _artefact(media_type: str) -> str:
    """What a type belongs to, in words; empty if that is not known."""
    return next((words for start, words in _ARTEFACTS.items() if media_type.startswith(start)), "")


def _no_image(name: str, words: str, kind: str = "") -> ImageError:
    return ImageError(
        f"{name} is not a container image but {words or kind}",
        context=kind if words else None,
        hint="give the reference of an image",
        identifier="not-an-image",
    )


def _checked_config(config: Any, name: str) -> dict[str, Any]:
    """The "config" object with the types that the specification gives its fields."""
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise _malformed(name, "its config is no object")
    for key in ("Env", "Entrypoint", "Cmd"):
        value = config.get(key)
        if value is not None and not (isinstance(value, list) and all(_is_argument(item) for item in value)):
            raise _malformed(name, f"{key} in its configuration is no list of strings")
    for key in ("WorkingDir", "User"):
        value = config.get(key)
        if value is not None and not _is_argument(value):
            raise _malformed(name, f"{key} in its configuration is no string")
    volumes = config.get("Volumes")
    if volumes is not None and not (isinstance(volumes, dict) and all(map(_is_argument, volumes))):
        raise _malformed(name, "Volumes in its configuration is no object of paths")
    return config


def _is_argument(value: Any) -> bool:
    """Whether a process can be given ``value``: JSON has strings that no bytes stand for."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _document(content: bytes, what: str) -> dict[str, Any]:
    try:
        document = documents.parse(content)
    except ValueError:
        raise ImageError(f"{what} is not JSON", identifier="malformed-manifest") from None
    if not isinstance(document, dict):
        raise ImageError(f"{what} is no JSON object", identifier="malformed-manifest")
    return document


def _descriptor(value: Any, name: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _malformed(name, "a descriptor is no object")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType", "")
    if not digests.is_digest(digest):
        raise _malformed(name, f"{digest!r} is no sha256 digest")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 50:
        raise _malformed(name, f"the size of {digest} is {size!r}")
    platform = value.get("platform")
    parts = (
        [platform.get(key) for key in ("os", "architecture", "variant")] if isinstance(platform, dict) else []
    )
    annotations = value.get("annotations")
    texts = annotations.items() if isinstance(annotations, dict) else ()
    return Descriptor(
        str(media_type),
        str(digest),
        size,
        "/".join(str(part) for part in parts if part),
        {str(key): text for key, text in texts if isinstance(text, str)},
    )


def _malformed(name: str, why: str) -> ImageError:
    return ImageError(f"the manifest of {name} is malformed: {why}", identifier="malformed-manifest")

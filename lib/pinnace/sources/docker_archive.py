"""Archives of `docker save` and `podman save` (Docker image specification 1.2, "Combined Image JSON").

Their ``manifest.json`` names a configuration and the layers, which are plain tar archives as a rule,
may be links to one another and have no digest but the configuration's diff IDs. Docker 25 and later
write an OCI layout into the same archive: that is read if it is there, since it has the manifest
of the registry that the image came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pinnace import digest as digests
from pinnace.errors import ImageError, ReferenceError  # noqa: A004 - the field's own word
from pinnace.reference import Reference, parse
from pinnace.sources import LayerBlob, LocalSource, SourceImage, manifests, platforms, synthetic
from pinnace.sources.archive import Archive
from pinnace.sources.layout import MARKER, LayoutSource

MANIFEST = "manifest.json"
#: Bytes.
_MAX_MANIFEST = 8 << 20


@dataclass(frozen=True)
class _Listed:
    """One image of ``manifest.json``."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


def source(archive: Archive, chosen: str = "") -> LocalSource:
    """The source for the image called ``chosen``, or the only one. Raises ImageError."""
    if MARKER in archive and "index.json" in archive:
        try:
            return LayoutSource(archive, _full(chosen) if chosen else "")
        except ImageError:
            # Some writers leave names out of the index that manifest.json has.
            if MANIFEST not in archive:
                raise
    return DockerArchiveSource(archive, chosen)


class DockerArchiveSource(LocalSource):
    """An ``ImageSource`` that reads one image as ``manifest.json`` has it."""

    def __init__(self, archive: Archive, chosen: str = "") -> None:
        self._archive = archive
        if MANIFEST not in archive:
            raise ImageError(
                f"{archive.name} is no archive of `docker save`: it has no {MANIFEST}",
                hint="for a root file system write tar: before the path, for an OCI layout oci-archive:",
                identifier="not-an-archive",
            )
        listed = _listed(archive.read(MANIFEST, _MAX_MANIFEST), archive.name)
        self._image = _choose(listed, chosen, archive.name)
        self._members: dict[str, str] = {}

    def name(self) -> str | None:
        """The first name that the image was saved under."""
        return self._image.tags[0] if self._image.tags else None

    def current_digest(self, reference: Reference) -> str | None:
        """Unknown before the image is described."""
        return None

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Describe the image. Raises ImageError."""
        name = self._archive.name
        content = self._archive.read(self._image.config, manifests.MAX_CONFIG)
        _check_config_name(self._image.config, content, name)
        configuration = manifests.parse_configuration(content, name)
        if not platforms.matches(configuration.platform, platform):
            raise manifests.other_platform(name, platform, [configuration.platform])
        count = len(self._image.layers)
        if len(configuration.diff_ids) != count:
            raise ImageError(
                f"{name} has {count} layers, its configuration {len(configuration.diff_ids)}",
                identifier="malformed-manifest",
            )
        sizes = [self._archive.size(layer) for layer in self._image.layers]
        pairs = list(zip(configuration.diff_ids, sizes))
        self._members = dict(zip(configuration.diff_ids, self._image.layers))
        digest = synthetic.manifest_digest(content, pairs)
        layers = tuple(LayerBlob(diff_id, size, diff_id) for diff_id, size in pairs)
        return SourceImage(reference, digest, digest, platform, configuration.config, layers)

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The layer's bytes, compressed or not: what they unpack to must have the diff ID."""
        return self._archive.pieces(self._members[layer.diff_id])


def _check_config_name(path: str, content: bytes, archive: str) -> None:
    """A configuration is called after its digest, which is the image's ID."""
    stem = path.rpartition("/")[2].removesuffix(".json")
    if digests.is_hex(stem) and digests.PREFIX + stem != digests.of_bytes(content):
        raise ImageError(
            f"{path} in {archive} is damaged: its content has digest {digests.of_bytes(content)}",
            hint="copy or make the archive anew",
            identifier="digest-mismatch",
        )


def _listed(content: bytes, archive: str) -> list[_Listed]:
    try:
        document = json.loads(content)
        return [_image(item) for item in document]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ImageError(
            f"{MANIFEST} in {archive} is malformed",
            hint="make the archive anew",
            identifier="malformed-manifest",
        ) from None


def _image(item: Any) -> _Listed:
    layers = item["Layers"] or []
    tags = item.get("RepoTags") or []
    if not all(isinstance(text, str) for text in (item["Config"], *layers, *tags)):
        raise TypeError
    if len(layers) > manifests.MAX_LAYERS:
        raise ValueError
    return _Listed(item["Config"], tuple(tags), tuple(layers))


def _choose(images: list[_Listed], chosen: str, archive: str) -> _Listed:
    found = images
    if chosen:
        full = _full(chosen)
        found = [image for image in images if full in map(_full, image.tags)]
    if len(found) == 1:
        return found[0]
    have = ", ".join(tag for image in images for tag in image.tags) or "none with a name"
    if chosen:
        raise ImageError(
            f"{archive} holds no image {chosen}", hint=f"there are {have}", identifier="unknown-tag"
        )
    if not images:
        raise ImageError(f"{archive} holds no image", identifier="unknown-image")
    raise ImageError(
        f"{archive} holds several images", hint=f"add :NAME with one of {have}", identifier="ambiguous-image"
    )


def _full(name: str) -> str:
    """The whole reference that a name means, so that spellings can be compared."""
    try:
        return str(parse("docker://" + name))
    except ReferenceError:
        return name

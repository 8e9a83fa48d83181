"""OCI image layouts, in a directory or a tar archive (OCI image specification, image-layout.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pinnace import digest as digests
from pinnace.errors import ImageError
from pinnace.reference import Reference
from pinnace.sources import LayerBlob, LocalSource, SourceImage, blobs, manifests, selection
from pinnace.sources.blobs import Blobs
from pinnace.sources.manifests import MAX_MANIFEST, Descriptor

MARKER = "oci-layout"
_INDEX = "index.json"
_TAG = "org.opencontainers.image.ref.name"
#: containerd and Docker 25 and later write the whole reference here.
_FULL_NAME = "io.containerd.image.name"


class Content(NamedTuple):
    """A manifest or index that was read from a layout (a ``manifests.RawManifest``)."""

    content: bytes
    media_type: str
    digest: str


class LayoutSource(LocalSource):
    """An ``ImageSource`` that reads one image of a layout: ``chosen`` is its tag, digest or name."""

    def __init__(self, files: Blobs, chosen: str = "") -> None:
        self._files = files
        name = files.name
        if _INDEX not in files:
            raise ImageError(
                f"{name} is no OCI image layout: it has no {_INDEX}",
                hint="give the directory or archive that skopeo, buildah or umoci wrote",
                identifier="not-an-archive",
            )
        content = files.read(_INDEX, MAX_MANIFEST)
        self._index = Content(content, "", digests.of_bytes(content))
        offers = manifests.parse_index(self._index, name)
        #: None: the index itself is what offers one image for each of several platforms.
        self._offer = self._find(offers, chosen)

    def name(self) -> str | None:
        """The tag or reference that the image has here."""
        return _label(self._offer) or None if self._offer else None

    def current_digest(self, reference: Reference) -> str | None:
        """The digest of the manifest or index that was chosen."""
        return self._offer.digest if self._offer else self._index.digest

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Describe the image. Raises ImageError."""
        raw = self._manifest(self._offer) if self._offer else self._index
        return selection.image(raw, reference, platform, self._manifest, self._configuration)

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The layer's compressed bytes, checked against its digest and size."""
        return blobs.checked(self._files, blobs.path_of(layer.digest), layer.digest, layer.size)

    def _manifest(self, descriptor: Descriptor) -> Content:
        content = blobs.read(self._files, descriptor.digest, descriptor.size, MAX_MANIFEST)
        return Content(content, descriptor.media_type, descriptor.digest)

    def _configuration(self, descriptor: Descriptor) -> bytes:
        return blobs.read(self._files, descriptor.digest, descriptor.size, manifests.MAX_CONFIG)

    def _find(self, offers: list[Descriptor], chosen: str) -> Descriptor | None:
        name = self._files.name
        if not offers:
            raise ImageError(f"{name} holds no image", identifier="unknown-image")
        found = [offer for offer in offers if not chosen or chosen in _labels(offer)]
        several = {offer.digest for offer in found}
        if len(several) == 1:
            return found[0]
        tags = sorted({_label(offer) for offer in offers} - {""})
        if found and not tags:
            return None
        have = ", ".join(tags) or ", ".join(digests.short(offer.digest) for offer in offers)
        if chosen:
            raise ImageError(
                f"{name} holds no image {chosen}", hint=f"there are {have}", identifier="unknown-tag"
            )
        raise ImageError(
            f"{name} holds several images", hint=f"add :TAG with one of {have}", identifier="ambiguous-image"
        )


def _labels(offer: Descriptor) -> set[str]:
    return {offer.digest, offer.annotations.get(_TAG, ""), offer.annotations.get(_FULL_NAME, "")} - {""}


def _label(offer: Descriptor) -> str:
    return offer.annotations.get(_FULL_NAME) or offer.annotations.get(_TAG, "")

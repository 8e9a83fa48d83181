"""Images in registries."""

from __future__ import annotations

from collections.abc import Iterator

from pinnace.errors import ImageError
from pinnace.reference import Reference
from pinnace.registry import RegistryClient
from pinnace.sources import LayerBlob, SourceImage, manifests, platforms

#: Indexes within indexes that are followed.
_MAX_DEPTH = 3


class RegistrySource:
    """An ``ImageSource`` that reads from one registry."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    def current_digest(self, reference: Reference) -> str | None:
        """The digest that ``reference`` has now, by one request without a body."""
        return self._client.manifest_digest(reference)

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Fetch the image's manifest and configuration. Raises RegistryError or ImageError."""
        name = str(reference)
        raw = self._client.manifest(reference)
        source_digest = raw.digest
        for _ in range(_MAX_DEPTH):
            if not manifests.is_index(raw, name):
                break
            chosen = manifests.select(manifests.parse_index(raw, name), platform, name)
            raw = self._client.manifest(reference.with_digest(chosen.digest))
        else:
            raise ImageError(f"{name} is an index in an index in an index", identifier="malformed-manifest")
        manifest = manifests.parse_manifest(raw, name)
        if manifest.config.size > manifests.MAX_CONFIG:
            raise ImageError(f"the configuration of {name} is larger than {manifests.MAX_CONFIG} bytes")
        blob = self._client.blob(reference.repository, manifest.config.digest, manifest.config.size)
        configuration = manifests.parse_configuration(b"".join(blob), name)
        if not platforms.matches(configuration.platform, platform):
            raise manifests.other_platform(name, platform, [configuration.platform])
        if len(configuration.diff_ids) != len(manifest.layers):
            raise ImageError(
                f"{name} has {len(manifest.layers)} layers, its configuration {len(configuration.diff_ids)}",
                identifier="malformed-manifest",
            )
        layers = tuple(
            LayerBlob(layer.digest, layer.size, diff_id)
            for layer, diff_id in zip(manifest.layers, configuration.diff_ids)
        )
        return SourceImage(reference, raw.digest, source_digest, platform, configuration.config, layers)

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The layer's compressed bytes, checked against its digest and size."""
        return self._client.blob(image.reference.repository, layer.digest, layer.size)

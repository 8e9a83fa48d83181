"""Images in registries."""

from __future__ import annotations

from collections.abc import Iterator

from pinnace.reference import Reference
from pinnace.registry import RegistryClient
from pinnace.sources import LayerBlob, SourceImage, selection
from pinnace.sources.manifests import Descriptor


class RegistrySource:
    """An ``ImageSource`` that reads from one registry."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    def current_digest(self, reference: Reference) -> str | None:
        """The digest that ``reference`` has now, by one request without a body."""
        return self._client.manifest_digest(reference)

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Fetch the image's manifest and configuration. Raises RegistryError or ImageError."""

        def configuration(descriptor: Descriptor) -> bytes:
            blob = self._client.blob(reference.repository, descriptor.digest, descriptor.size)
            return b"".join(blob)

        return selection.image(
            self._client.manifest(reference),
            reference,
            platform,
            lambda descriptor: self._client.manifest(reference.with_digest(descriptor.digest)),
            configuration,
        )

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The layer's compressed bytes, checked against its digest and size."""
        return self._client.blob(image.reference.repository, layer.digest, layer.size)

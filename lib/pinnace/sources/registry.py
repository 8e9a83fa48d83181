"""Images in registries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pinnace.config import Settings
from pinnace.credentials import keyrings
from pinnace.reference import Reference
from pinnace.registry import RegistryClient, connect
from pinnace.sources import ImageSource, LayerBlob, SourceImage, Use, selection
from pinnace.sources.manifests import Descriptor


class RegistrySource(ImageSource):
    """An ``ImageSource`` that reads from one registry."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    @classmethod
    def of(
        cls, reference: Reference, settings: Settings, warn: Callable[[str], None] | None = None
    ) -> RegistrySource:
        """The registry of ``reference``, reached as ``settings`` say.

        ``warn`` takes what a user should know about his credentials and his mirrors.
        """
        keys = keyrings(reference, settings, warn)
        return cls(connect(reference.registry, settings, keys, warn))

    def current_digest(self, reference: Reference) -> str | None:
        """The digest that ``reference`` has now, by one request without a body."""
        return self._client.manifest_digest(reference)

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Fetch the image's manifest and configuration. Raises RegistryError or ImageError."""

        def configuration(descriptor: Descriptor) -> bytes:
            return self._client.read(
                reference.repository, descriptor.digest, descriptor.size, lambda pieces: b"".join(pieces)
            )

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

    def read(self, image: SourceImage, layer: LayerBlob, use: Use) -> None:
        """Have ``use`` take the layer's bytes, the registry's own if those of a mirror are wrong."""
        self._client.read(image.reference.repository, layer.digest, layer.size, use)

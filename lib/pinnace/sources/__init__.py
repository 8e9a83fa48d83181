"""Where images come from. Every source yields the same: an ``ImageSource``.

platforms.py       which of several images is for this machine
manifests.py       manifests, indexes and configurations, checked
selection.py       from a manifest or an index to the image for one platform
registry.py        the source for registries
locations.py       what users write for files; local.py opens the source that it means
layout.py          OCI layouts, docker_archive.py archives of `docker save`, both on
archive.py         random access into a tar archive, and on
blobs.py           content-addressed files in a directory or an archive
rootfs.py          root file systems: tar archives, squashfs files and, by directory.py, directories;
enroot.py          the files in them that enroot has for their configuration
squash_file.py     squashfs files that the store can take over as they are
synthetic.py       the manifests that they get
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pinnace.reference import Reference
from pinnace.tuples import NamedTuple

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import Any, Protocol
else:
    Protocol = object


class LayerBlob(NamedTuple):
    """One layer as its source stores it.

    ``digest`` and ``size`` (bytes) are those of the compressed blob, ``diff_id`` is the digest
    of the tar stream within: the manifest and the configuration claim them, whoever reads the
    blob checks them. ``media_type`` is what the manifest calls it, if there is one.
    """

    digest: str
    size: int
    diff_id: str
    media_type: str = ""


class SourceImage(NamedTuple):
    """One image for one platform as its source describes it.

    ``source_digest`` belongs to what ``reference`` names, an index perhaps; ``digest`` to the
    platform's manifest. ``config`` is the "config" object of the image configuration. Layers
    from the bottom up.
    """

    reference: Reference
    digest: str
    source_digest: str
    platform: str
    config: dict[str, Any]
    layers: tuple[LayerBlob, ...]


#: Takes the bytes of a layer.
Use = Callable[[Iterator[bytes]], None]


class ImageSource(Protocol):
    """What a source of images can do."""

    def current_digest(self, reference: Reference) -> str | None:
        """The digest that ``reference`` has now, cheaply; None if it takes ``resolve`` to tell."""

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Describe the image. Raises RegistryError or ImageError."""

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The layer's compressed bytes: checked against digest and size once the iteration ends."""

    def read(self, image: SourceImage, layer: LayerBlob, use: Use) -> None:
        """Have ``use`` take the layer's bytes; once more, from elsewhere, if they were wrong."""
        use(self.open(image, layer))

    def make(self, image: SourceImage, layer: LayerBlob, target: str) -> bool:
        """Write the layer's squashfs file if the source has it in a better form than a tar; False if not."""
        return False


class LocalSource(ImageSource, Protocol):
    """A source on this machine, which holds one image."""

    def name(self) -> str | None:
        """What the image is called there: a reference or a mere tag."""

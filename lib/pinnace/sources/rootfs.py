"""Root file systems (a tar archive, a directory, a squashfs file) as images of one layer.

Each is a tar stream that can be produced again: it is read once for its digest, which is the layer's
and decides the image's, and a second time if the layer has to be converted. What changed in between
is noticed, as is every other layer that is not what its digest says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from pinnace import digest as digests
from pinnace.errors import ImageError
from pinnace.layers import tar
from pinnace.layers.squash import squash_reader
from pinnace.layers.stream import ByteStream
from pinnace.reference import Reference
from pinnace.sources import LayerBlob, LocalSource, SourceImage, enroot, synthetic
from pinnace.sources.archive import File, unreadable

Stream = Callable[[], Iterator[bytes]]
#: Files that tell an image's configuration, and the bytes that are read of one.
_FILES = frozenset((enroot.ENVIRONMENT, enroot.SCRIPT, enroot.LOCAL))
_MAX_FILE = 1 << 20


class RootSource(LocalSource):
    """An ``ImageSource`` of one layer, the tar stream that ``stream`` gives anew at each call.

    ``config`` is called after the first reading: what is found in the tree may be part of it.
    """

    def __init__(self, stream: Stream, config: Callable[[], dict[str, Any]] = dict) -> None:
        self._stream = stream
        self._config = config

    def name(self) -> str | None:
        """None: a tree has no name."""
        return None

    def current_digest(self, reference: Reference) -> str | None:
        """Unknown before all of it is read."""
        return None

    def resolve(self, reference: Reference, platform: str) -> SourceImage:
        """Read the tree and describe it as an image for ``platform``. Raises ImageError."""
        state = hashlib.sha256()
        size = 0
        for piece in self._stream():
            state.update(piece)
            size += len(piece)
        diff_id = digests.PREFIX + state.hexdigest()
        config = self._config()
        configuration = synthetic.configuration(platform, config, [diff_id])
        digest = synthetic.manifest_digest(configuration, [(diff_id, size)])
        return SourceImage(reference, digest, digest, platform, config, (LayerBlob(diff_id, size, diff_id),))

    def open(self, image: SourceImage, layer: LayerBlob) -> Iterator[bytes]:
        """The tree's tar stream once more; its digest is checked by whoever converts it."""
        return self._stream()


def archive(file: File) -> RootSource:
    """The source for the tar archive ``file``, plain or compressed. Raises ImageError if it is none."""
    try:
        first = next(tar.entries(ByteStream(file.plain()), file.name), None)
    except ImageError as error:
        raise unreadable(file.name, error) from None
    if first is None:
        raise ImageError(
            f"{file.name} is no tar archive, or an empty one",
            hint="tar archives may be plain or compressed with gzip or zstd",
            identifier="not-an-archive",
        )
    return RootSource(file.plain)


class SquashTree:
    """A squashfs file as a tar stream, and the configuration that enroot left in it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: dict[bytes, bytes] = {}

    def source(self) -> RootSource:
        """The ``ImageSource`` of the file."""
        return RootSource(self._pieces, self._config)

    def _pieces(self) -> Iterator[bytes]:
        with squash_reader(self._path) as stream:
            recorded = _Recorded(stream)
            for entry in tar.entries(recorded, self._path):
                yield recorded.taken()
                path = entry.path.removeprefix(b"./")
                wanted = path in _FILES and entry.kind == tar.FILE and entry.size <= _MAX_FILE
                body = b""
                for piece in stream.pieces(entry.size + tar.padding(entry.size)):
                    if wanted:
                        body += piece
                    yield bytes(piece)
                if wanted:
                    self._files[path] = body[: entry.size]
            yield tar.END

    def _config(self) -> dict[str, Any]:
        return enroot.config_of(self._files)


class _Recorded(ByteStream):
    """Keeps the headers that pass, since they are part of the stream as well."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(iter(()))
        self._stream = stream
        self._kept = bytearray()

    def at_end(self) -> bool:
        return self._stream.at_end()

    def exactly(self, count: int) -> bytes:
        block = self._stream.exactly(count)
        self._kept += block
        return block

    def skip(self, count: int) -> None:
        self.exactly(count)  # only the padding of long names is passed over

    def taken(self) -> bytes:
        """What was read since the last call."""
        kept = bytes(self._kept)
        self._kept.clear()
        return kept

"""One layer's blob to its squashfs file, in one stream and without a temporary tar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from pinnace import digest as digests
from pinnace.config import Settings
from pinnace.errors import ImageError
from pinnace.layers import names, tar
from pinnace.layers.decompression import decompressed
from pinnace.layers.filter import Filter
from pinnace.layers.squash import Format, SquashWriter
from pinnace.layers.stages import ahead
from pinnace.layers.stream import ByteStream, EndOfStream

#: Bytes that a layer may have however small its blob is: a file of zeros is a thousandth of its size.
_ANYWAY = 4 << 30


class Limits(NamedTuple):
    """What a layer may cost.

    ``unpacked`` is the bytes of its tar stream, ``setting`` what to raise if they are meant.
    """

    unpacked: int = 256 << 30
    setting: str = "max_layer_size"

    @classmethod
    def of(cls, settings: Settings, compressed: int) -> Limits:
        """Those of a layer whose blob has ``compressed`` bytes."""
        size, ratio = settings["max_layer_size"], settings["max_layer_ratio"]
        likely = _ANYWAY + ratio * compressed
        return cls(likely, "max_layer_ratio") if ratio and likely < size else cls(size)


def convert(chunks: Iterator[bytes], diff_id: str, target: str, form: Format, limits: Limits) -> None:
    """Write ``target`` from a layer's compressed bytes.

    ``chunks`` checks the compressed digest itself; ``diff_id`` is what the tar stream must have.
    Raises ImageError if it has another, or is hostile, malformed or too large; StoreError if
    ``target`` cannot be written. After an error there is no ``target``.
    """
    name = digests.short(diff_id)
    plain = _Checked(ahead(decompressed(ahead(chunks), name)), limits, name)
    with closing(ahead(iter(plain))) as pieces, SquashWriter(target, form) as writer:
        stream = ByteStream(pieces)
        layer_filter = Filter(name)
        for entry in tar.entries(stream, name):
            _pass(stream, entry, layer_filter.admit(entry), writer, name)
        index = layer_filter.index()
        if index is not None:
            writer.add(tar.Entry(names.SIDE + b"/" + names.INDEX, tar.FILE, size=len(index)), index)
        stream.drain()  # what follows the end mark counts for the digests
        if plain.digest() != diff_id:
            raise ImageError(
                f"layer {diff_id} is damaged: its content has digest {plain.digest()}",
                hint="push the image anew",
                identifier="digest-mismatch",
            )


def _pass(
    stream: ByteStream, entry: tar.Entry, admitted: tar.Entry | None, writer: SquashWriter, name: str
) -> None:
    """Write ``admitted`` with the body of ``entry``, or pass over the body."""
    length = entry.size + tar.padding(entry.size)
    try:
        if admitted is None:
            stream.skip(length)
            return
        writer.write(tar.header(admitted))
        if admitted.size != entry.size:
            stream.skip(length)  # a whiteout with a body
            return
        for piece in stream.pieces(length):
            writer.write(piece)
    except EndOfStream:
        raise tar.malformed(name, f"it ends within {tar.printable(entry.path)}") from None


class _Checked:
    """Hashes and counts what passes."""

    def __init__(self, pieces: Iterator[bytes], limits: Limits, name: str) -> None:
        self._pieces = pieces
        self._limits = limits
        self._name = name
        self._state = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        for piece in self._pieces:
            count += len(piece)
            if count > self._limits.unpacked:
                raise ImageError(
                    f"layer {self._name} unpacks to more than {self._limits.unpacked} bytes",
                    hint=f"raise {self._limits.setting} if that is meant",
                    identifier="layer-too-large",
                )
            self._state.update(piece)
            yield piece

    def digest(self) -> str:
        return digests.PREFIX + self._state.hexdigest()

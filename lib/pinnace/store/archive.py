"""Images with their layers in one tar archive, to be carried to another store (docs/architecture.md).

    pinnace-store.json                       version of this format, and of the store's
    layers/sha256/<diff ID>.json, .sqsh      record and file of each layer
    images/sha256/<manifest digest>.json     record of an image
    images/sha256/<manifest digest>.sqsh     its file, if not all of its layers are in the archive
    references/<number>.json                 what a reference means

An image is spliced from its layers again, so that its file need not be carried. Everything is
checked against its record before any of it appears in the store. That a layer is what its diff ID says
is the word of whoever made the archive, as it is that of who owns an additional store.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from pinnace import digest as digests
from pinnace import locks, squashfs
from pinnace.errors import ImageError, StoreError
from pinnace.layers import Format, tar
from pinnace.layers.squash import storage_error
from pinnace.layers.stream import ByteStream, EndOfStream
from pinnace.reference import Reference, parse
from pinnace.sources import manifests, platforms, synthetic
from pinnace.store.build import Workspace, workspace
from pinnace.store.images import BUILD_FORMAT, Image, Layer, Resolution
from pinnace.store.store import Catalogue

HEAD = b"pinnace-store.json"
_VERSION = 1
_MEMBER = re.compile(rb"(layers|images)/sha256/([0-9a-f]{64})\.(json|sqsh)|references/[0-9]{1,6}\.json")
_CHUNK = 1 << 20
#: Bytes of a record, whose largest part is an image's configuration.
_MAX_RECORD = 16 << 20
#: Bytes of all records, which are in memory until everything is checked.
_MAX_RECORDS = 128 << 20
_MAX_MEMBERS = 100_000

Write = Callable[[bytes], object]


# Writing


def write(known: Catalogue, images: Sequence[tuple[Reference, Image]], out: Write) -> None:
    """Write an archive of ``images``, each with the name that it is to have, by calling ``out``.

    Raises StoreError if an object is gone or damaged, and what ``out`` raises.
    """
    head = {"version": _VERSION, "format": BUILD_FORMAT}
    _record(out, HEAD.decode(), json.dumps(head).encode())
    written: set[str] = set()
    for reference, image in images:
        with ExitStack() as held:
            _write_image(known, image, out, written, held)
        resolution = Resolution(
            image.digest,
            image.origin.digest or image.digest,
            image.created_at,
            image.platform,
            str(reference),
        )
        _record(out, f"references/{len(written)}.json", resolution.to_json())
        written.add(str(reference))
    out(tar.END)


def _write_image(known: Catalogue, image: Image, out: Write, written: set[str], held: ExitStack) -> None:
    layers = _layers(known, image, held)
    for layer, file in layers or ():
        if layer.diff_id not in written:
            written.add(layer.diff_id)
            name = f"layers/sha256/{digests.hex_of(layer.diff_id)}"
            _record(out, f"{name}.json", layer.to_json())
            _object(out, f"{name}.sqsh", file, layer.size, layer.sha256)
    if image.digest in written:
        return
    written.add(image.digest)
    name = f"images/sha256/{digests.hex_of(image.digest)}"
    if layers is None and not image.sha256:
        with suppress(OSError):  # told when it is opened
            image = image._replace(sha256=digests.of_file(image.path))
    _record(out, f"{name}.json", image.to_json())
    if layers is None:
        _object(out, f"{name}.sqsh", _opened(image.path, held), image.size, image.sha256)


def _layers(known: Catalogue, image: Image, held: ExitStack) -> list[tuple[Layer, BinaryIO]] | None:
    """The image's layers, open so that nobody can take them away; None if not all are there."""
    found: list[tuple[Layer, BinaryIO]] = []
    for diff_id in image.layers:
        for store in known.stores():
            layer = store.layer(diff_id)
            if layer is not None and os.path.exists(store.layer_path(diff_id)):
                found.append((layer, _opened(store.layer_path(diff_id), held)))
                break
        else:
            return None
    forms = {(layer.format, layer.compressor, layer.block_size) for layer, _ in found}
    return found if len(forms) == 1 else None


def _opened(path: str, held: ExitStack) -> BinaryIO:
    try:
        return held.enter_context(open(path, "rb", buffering=0))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None


def _record(out: Write, name: str, content: bytes) -> None:
    header = tar.header(tar.Entry(name.encode(), tar.FILE, 0o644, len(content)))
    out(header + content + bytes(tar.padding(len(content))))


def _object(out: Write, name: str, file: BinaryIO, size: int, sha256: str) -> None:
    state = hashlib.sha256()
    left = size
    out(tar.header(tar.Entry(name.encode(), tar.FILE, 0o644, size)))
    while left:
        try:
            piece = file.read(min(_CHUNK, left))
        except OSError as error:
            raise StoreError(f"cannot read {file.name}: {error.strerror}") from None
        if not piece:
            break
        state.update(piece)
        left -= len(piece)
        out(piece)
    if left or digests.PREFIX + state.hexdigest() != sha256:
        raise StoreError(
            f"{file.name} is damaged", hint="`pinnace store repair` mends it", identifier="damaged-image"
        )
    out(bytes(tar.padding(size)))


# Reading


def is_archive(path: str) -> bool:
    """Whether the file at ``path`` begins as such an archive does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.read(descriptor, len(HEAD) + 1) == HEAD + b"\0"
    except OSError:
        return False
    finally:
        os.close(descriptor)


@dataclass
class _Contents:
    """What was read of an archive: records, and the checked files of what the store does not have."""

    layers: dict[str, Layer] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    #: Files in the workspace by digest.
    files: dict[str, str] = field(default_factory=dict)
    resolutions: list[Resolution] = field(default_factory=list)


def read(
    stream: BinaryIO, name: str, known: Catalogue, form: Format, *, rename: Reference | None = None
) -> list[tuple[Reference, Image]]:
    """Take the images of an archive into the store that ``known`` writes to; gives them with their names.

    What the store has already stays as it is. ``rename`` is what the only image is to be called.
    Raises ImageError if the archive is damaged or hostile, StoreError if the store cannot be written
    or is of another form. Nothing of the archive is in the store after an error, but for whole images.
    """
    store = known.own
    with workspace(store, form) as place:
        contents = _Reader(stream, name, known, place, form).contents()
        named = _names(contents, name, rename)
        images = {
            digest: _place_image(known, image, contents, place, form, name)
            for digest, image in contents.images.items()
        }
        for diff_id, layer in contents.layers.items():
            with locks.held(store.lock_path("layer", diff_id)):
                if diff_id in contents.files and not os.path.exists(store.layer_path(diff_id)):
                    place.put_layer(layer, contents.files[diff_id])
        now = time.time()
        for reference, found in named:
            origin = f"archive:{name}"  # so that no registry is asked, which may be out of reach for ever
            resolution = Resolution(found.digest, found.source, now, found.platform, str(reference), origin)
            place.record(reference, resolution)
    return [(reference, images[found.digest]) for reference, found in named]


def _names(contents: _Contents, name: str, rename: Reference | None) -> list[tuple[Reference, Resolution]]:
    for resolution in contents.resolutions:
        image = contents.images.get(resolution.digest)
        if image is None or image.platform != resolution.platform:
            raise _malformed(name, f"{resolution.reference} is not in it")
    if rename is None:
        return [(parse(resolution.reference), resolution) for resolution in contents.resolutions]
    if len(contents.images) != 1 or not contents.resolutions:
        raise ImageError(
            f"{name} holds {len(contents.images)} images, which cannot all be called {rename}",
            hint="leave the name out",
            identifier="ambiguous-image",
        )
    return [(rename, contents.resolutions[0])]


def _place_image(
    known: Catalogue, image: Image, contents: _Contents, place: Workspace, form: Format, name: str
) -> Image:
    store = known.own
    with locks.held(store.lock_path("image", image.digest)), ExitStack() as held:
        present = known.image(image.digest)
        if present is not None and (present.store != store.root or place.keep(image.digest)):
            return present
        file = contents.files.get(image.digest)
        if file is not None:
            return place.put_image(image, file)
        layers = []
        for diff_id in image.layers:
            path = (
                contents.files.get(diff_id) or place.layer(diff_id) or known.layer_file(diff_id, form, held)
            )
            if path is None:
                raise _malformed(name, f"layer {diff_id} is missing")
            layers.append(path)
        return place.add_image(image, layers, form)


class _Reader:
    """One pass over an archive: every member is checked, and files are kept in the workspace."""

    def __init__(self, stream: BinaryIO, name: str, known: Catalogue, place: Workspace, form: Format) -> None:
        self._stream = ByteStream(iter(lambda: stream.read(_CHUNK), b""))
        self._name, self._known, self._place, self._form = name, known, place, form
        self._found = _Contents()
        self._record_bytes = 0

    def contents(self) -> _Contents:
        try:
            for number, entry in enumerate(tar.entries(self._stream, self._name)):
                if number == 0:
                    self._head(entry)
                elif number >= _MAX_MEMBERS:
                    raise self._malformed(f"it has more than {_MAX_MEMBERS} members")
                else:
                    self._member(entry)
        except EndOfStream:
            raise self._malformed("it is cut short") from None
        except ImageError as error:
            if error.identifier != "malformed-layer":
                raise
            raise self._malformed(error.message.partition(": ")[2]) from None
        except OSError as error:
            raise ImageError(f"cannot read {self._name}: {error.strerror}") from None
        if not self._found.images:
            raise self._malformed("it holds no image")
        return self._found

    def _head(self, entry: tar.Entry) -> None:
        if entry.path != HEAD or entry.kind != tar.FILE:
            raise ImageError(
                f"{self._name} is no archive of a store",
                hint="`pinnace store export` writes them; `pinnace pull` takes other files",
                identifier="not-an-archive",
            )
        head = self._json(entry)
        if (head.get("version"), head.get("format")) != (_VERSION, BUILD_FORMAT):
            raise ImageError(
                f"{self._name} is of another version of Pinnace",
                context=f"version {head.get('version')}, format {head.get('format')}",
                hint="export it with this one",
                identifier="archive-version",
            )

    def _member(self, entry: tar.Entry) -> None:
        match = _MEMBER.fullmatch(entry.path)
        if match is None or entry.kind != tar.FILE:
            raise self._malformed(f"{tar.printable(entry.path)} does not belong into it")
        kind, digest, suffix = match[1], digests.PREFIX + (match[2] or b"").decode(), match[3]
        try:
            if kind is None:
                self._found.resolutions.append(Resolution.from_json(self._body(entry)))
                platforms.parse(self._found.resolutions[-1].platform)
            elif suffix == b"sqsh":
                self._file(entry, kind == b"layers", digest)
            elif kind == b"layers":
                self._layer(Layer.from_json(self._body(entry)), digest)
            else:
                self._image(Image.from_json(self._body(entry), self._known.own.image_path(digest)), digest)
        except (ValueError, KeyError, TypeError):
            raise self._malformed(f"{tar.printable(entry.path)} is no record") from None

    def _layer(self, layer: Layer, digest: str) -> None:
        if layer.diff_id != digest or digest in self._found.layers:
            raise ValueError
        form = (layer.compressor, layer.block_size)
        if form != (self._form.compressor, self._form.block_size) or layer.format != BUILD_FORMAT:
            raise StoreError(
                f"{self._name} was made with other settings",
                context=f"compressor = {layer.compressor}, block_size = {layer.block_size}",
                hint="import it into another store that has them",
                identifier="store-format",
            )
        self._found.layers[digest] = layer

    def _image(self, image: Image, digest: str) -> None:
        if image.digest != digest or image.format != BUILD_FORMAT or digest in self._found.images:
            raise ValueError
        platforms.parse(image.platform)
        configuration = synthetic.configuration(image.platform, image.config, list(image.layers))
        manifests.parse_configuration(configuration, f"{digest} in {self._name}")
        self._found.images[digest] = image

    def _file(self, entry: tar.Entry, is_layer: bool, digest: str) -> None:
        known = self._found.layers.get(digest) if is_layer else self._found.images.get(digest)
        if known is None or digest in self._found.files or entry.size != known.size:
            raise self._malformed(f"{tar.printable(entry.path)} has another size than its record, or none")
        if self._place.layer(digest) is not None if is_layer else self._place.keep(digest):
            self._stream.skip(entry.size + tar.padding(entry.size))
            return
        path = self._place.temporary()
        state = hashlib.sha256()
        try:
            with open(path, "wb", buffering=0) as file:
                for piece in self._stream.pieces(entry.size):
                    state.update(piece)
                    while piece:
                        piece = piece[file.write(piece) :]
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(path, error) from None
        self._stream.skip(tar.padding(entry.size))
        if digests.PREFIX + state.hexdigest() != known.sha256:
            raise ImageError(
                f"{self._name} is damaged: {tar.printable(entry.path)} is not what its record says",
                hint="copy or export it anew",
                identifier="digest-mismatch",
            )
        try:
            squashfs.check(path)
        except ImageError:
            raise self._malformed(f"{tar.printable(entry.path)} is no squashfs file") from None
        self._found.files[digest] = path

    def _json(self, entry: tar.Entry) -> dict[str, object]:
        try:
            document = json.loads(self._body(entry))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._malformed(f"{tar.printable(entry.path)} is no record")
        return document

    def _body(self, entry: tar.Entry) -> bytes:
        if entry.size > _MAX_RECORD:
            raise self._malformed(f"{tar.printable(entry.path)} has {entry.size} bytes")
        self._record_bytes += entry.size
        if self._record_bytes > _MAX_RECORDS:
            raise self._malformed(f"its records have more than {_MAX_RECORDS} bytes")
        body = self._stream.exactly(entry.size)
        self._stream.skip(tar.padding(entry.size))
        return body

    def _malformed(self, why: str) -> ImageError:
        return _malformed(self._name, why)


def _malformed(name: str, why: str) -> ImageError:
    return ImageError(
        f"{name} is malformed: {why}", hint="copy or export it anew", identifier="malformed-archive"
    )

"""Write OCI image layouts, layer by layer, as a test wants them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le"}
_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


#: A regular file (bytes), a symbolic link (str) or a directory (None).
Content = Union[bytes, str, None]


def tar(entries: Mapping[str, Content], *, executable: Sequence[str] = ()) -> bytes:
    """A layer. A whiteout is a file of its name: ``{"etc/.wh.motd": b""}``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if content is None or name in executable else 0o644
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


def write_layout(
    layout: Path, layers: Sequence[bytes | Path], config: Mapping[str, Any], *, architecture: str = ""
) -> None:
    """Write an image of the uncompressed ``layers`` with ``config`` (Env, Cmd, …) as a layout's only one."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    written = [_write_layer(blobs, layer) for layer in layers]
    machine = architecture or _ARCHITECTURES.get(platform.machine(), platform.machine())
    image = {
        "architecture": machine,
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in written]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _write_json(blobs, image, _CONFIG),
        "layers": [descriptor for descriptor, _ in written],
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [_write_json(blobs, manifest, _MANIFEST)]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def layers(layout: Path) -> list[bytes]:
    """The uncompressed layers of a layout's only image."""

    def blob(descriptor: Mapping[str, Any]) -> bytes:
        return (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]))
    return [gzip.decompress(blob(layer)) for layer in manifest["layers"]]


def _write_layer(blobs: Path, layer: bytes | Path) -> tuple[dict[str, Any], str]:
    source = layer.open("rb") if isinstance(layer, Path) else io.BytesIO(layer)
    diff_id = hashlib.sha256()
    partial = blobs / "partial"
    # No name and no time in the header: the same layer has the same digest.
    with source, partial.open("wb") as target, gzip.GzipFile("", "wb", 1, target, mtime=0) as stream:
        while piece := source.read(1 << 20):
            diff_id.update(piece)
            stream.write(piece)
    digest = hashlib.sha256()
    with partial.open("rb") as compressed:
        while piece := compressed.read(1 << 20):
            digest.update(piece)
    size = partial.stat().st_size
    partial.rename(blobs / digest.hexdigest())
    return _descriptor(_GZIP, digest.hexdigest(), size), f"sha256:{diff_id.hexdigest()}"


def _write_json(blobs: Path, document: object, media_type: str) -> dict[str, Any]:
    text = json.dumps(document).encode()
    digest = hashlib.sha256(text).hexdigest()
    (blobs / digest).write_bytes(text)
    return _descriptor(media_type, digest, len(text))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}

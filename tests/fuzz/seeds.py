"""The inputs to begin with, one directory a target: ``python -m fuzz.seeds DIRECTORY`` writes them.

What mksquashfs and tar2sqfs make differs with their version, so that the kept corpus is the
record, and this says how it began.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

from fuzz import squash
from integration.trees import directory, entry, hardlink, layer, symlink
from pinnace import digest, fields
from pinnace.layers import Format, Limits, assemble, convert
from pinnace.store.images import Image, Layer, Origin, Resolution

_XATTR = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.b": "2"}
_LONG = "n" * 150
BOTTOM = [
    directory("./"), directory("a"), entry("a/f", content=b"content"), entry("a/g", content=b"x" * 9000),
    hardlink("a/h", "a/f"), symlink("l", "a"), entry("a/x", content=b"y", pax=_XATTR),
    entry(_LONG, content=b"z"), entry("p", tarfile.FIFOTYPE), directory("b", 0o1777), directory("dev"),
    entry("dev/null", tarfile.CHRTYPE), entry("b/c/d/e"),
]  # fmt: skip
TOP = [
    entry("l/new", content=b"n"), entry("a/.wh.f"), entry("b/.wh..wh..opq"), entry("b/f"),
    symlink("s", "../" + _LONG[:90]), hardlink("k", "a/g"), directory("a"), entry("a"),
]  # fmt: skip
ODD = [
    entry("f", content=b"1"), entry("f", content=b"2"), directory("d"), entry("d/x"), symlink("d", "e"),
    entry("d/y"), directory("e"), hardlink("m", "f"), entry(".wh.gone"), entry(".wh..wh.plnk"),
    hardlink("lower", "/usr/lib"), entry("o", tarfile.AREGTYPE),
]  # fmt: skip


def archives() -> Iterator[bytes]:
    """Layers."""
    for entries in (BOTTOM, TOP, ODD):
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
            if form == tarfile.USTAR_FORMAT:
                entries = [(info, content) for info, content in entries if len(info.name) < 100]
            yield _short(layer(entries, form))


def _short(archive: bytes) -> bytes:
    """``archive`` with an end mark of two blocks instead of up to twenty."""
    content = archive.rstrip(b"\0")
    return content + bytes(-len(content) % 512 + 1024)


def images(place: Path) -> Iterator[bytes]:
    """Inputs of one or two squashfs files."""
    source = place / "tree"
    place.mkdir(exist_ok=True)
    _tree(source)
    made: dict[str, bytes] = {}
    for compressor in ("gzip", "xz", "lz4", "zstd", "lzo"):
        for plain in ([], ["-noI", "-noId", "-noX"]):
            options = ["-comp", compressor, "-b", "4096", *plain]
            made[f"{compressor}{len(plain)}"] = _mksquashfs(source, place / "i.sqsh", options)
    (source / "many").mkdir()
    for number in range(300):
        (source / "many" / f"{number:03}{'-' * (number % 40)}").touch()
    made["many"] = _mksquashfs(source / "many", place / "i.sqsh", ["-comp", "zstd", "-b", "4096"])
    made["actions"] = _actions(place / "actions", place / "i.sqsh")
    form = Format("zstd", 1, 4096)
    layers = []
    for number, entries in enumerate((BOTTOM, TOP, ODD)):
        content = layer(entries)
        path = str(place / f"{number}.sqsh")
        convert(iter([content]), digest.of_bytes(content), path, form, Limits())
        layers.append(path)
        image = str(place / f"image{number}.sqsh")
        usable = [path] if number < 2 else layers[:1]
        if number != 1:
            assemble(usable, image, form)
            made[f"image{number}"] = _used(Path(image).read_bytes())
        made[f"layer{number}"] = _used(Path(path).read_bytes())
    for image_bytes in made.values():
        yield squash.joined([image_bytes])
    for pair in (
        ("image0", "layer1"),
        ("image0", "layer2"),
        ("zstd3", "zstd3"),
        ("zstd3", "layer1"),
        ("zstd3", "actions"),
    ):
        yield squash.joined([made[name] for name in pair])


def _tree(root: Path) -> None:
    root.mkdir()
    (root / "small").write_bytes(b"small")
    (root / "large").write_bytes(bytes(range(256)) * 40)
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "tail").write_bytes(b"t" * 5000)
    os.link(root / "small", root / "d" / "linked")
    os.symlink("../small", root / "d" / "link")
    os.mkfifo(root / "fifo")
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(9000)
    os.setxattr(root / "small", "user.a", b"1")
    os.setxattr(root / "d", "user.b", b"x" * 300)
    os.setxattr(root / "large", "user.b", b"x" * 300)
    if os.geteuid() == 0:
        (root / "dev").mkdir()
        os.mknod(root / "dev" / "null", 0o20666, os.makedev(1, 3))
        os.mknod(root / "dev" / "loop", 0o60600, os.makedev(7, 0))
        os.setxattr(root / "d" / "e", "trusted.c", b"2")


def _actions(root: Path, target: Path) -> bytes:
    """A layer with things put aside, whose index can be changed in its place."""
    side = root / ".wh..wh.pinnace"
    (side / "0").mkdir(parents=True)
    (side / "1").write_bytes(b"1")
    (side / "2").symlink_to("d")
    actions = [["put", "0", "d"], ["put", "1", "d/e/f"], ["link", "d/k", "small"], ["put", "2", "l"]]
    (side / "index").write_bytes(json.dumps(actions).encode().ljust(300) + b"\n")
    (root / ".wh.large").touch()
    (root / "d").mkdir()
    (root / "d" / ".wh..wh..opq").touch()
    stored = ["-noI", "-noId", "-noX", "-noD", "-noF"]
    return _mksquashfs(root, target, ["-comp", "zstd", "-b", "4096", *stored])


def _mksquashfs(source: Path, target: Path, options: list[str]) -> bytes:
    command = ["mksquashfs", str(source), str(target), "-noappend", "-quiet", "-no-progress", "-nopad"]
    subprocess.run(
        [*command, "-all-time", "0", "-mkfs-time", "0", *options], check=True, stdout=subprocess.DEVNULL
    )
    return target.read_bytes()


def _used(image: bytes) -> bytes:
    return image[: int.from_bytes(image[40:48], "little")]


def compressed() -> Iterator[bytes]:
    """Compressed streams."""
    text = bytes(range(256)) * 4 + bytes(3000)
    yield gzip.compress(text, mtime=0)
    yield gzip.compress(text[:500], mtime=0) + bytes(512) + gzip.compress(b"x", mtime=0)
    yield gzip.compress(bytes(1 << 20), mtime=0)
    yield zstandard.compress(text)
    yield b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.ZstdCompressor(write_checksum=True).compress(text)
    yield zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20)) * 2
    yield lzma.compress(text)
    yield b"plain"


def documents() -> Iterator[bytes]:
    """Manifests, indexes, configurations."""
    oci = "application/vnd.oci.image."
    blob = {"mediaType": oci + "layer.v1.tar+gzip", "digest": digest.of_bytes(b""), "size": 7}
    config = {**blob, "mediaType": oci + "config.v1+json"}
    annotated = {"annotations": {"org.opencontainers.image.ref.name": "1"}}
    offers = [
        {**blob, "platform": {"os": "linux", "architecture": architecture, "variant": variant}, **annotated}
        for architecture, variant in (("amd64", ""), ("amd64", "v3"), ("arm", "v7"), ("unknown", ""))
    ]
    run = {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "WorkingDir": "/", "User": "0"}
    rootfs = {"type": "layers", "diff_ids": [blob["digest"]]}
    for document in (
        {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": [blob, blob]},
        {"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": offers},
        {"schemaVersion": 1},
        {"schemaVersion": 2, "config": {**blob, "mediaType": "application/vnd.cncf.helm.x"}, "layers": []},
        {"os": "linux", "architecture": "amd64", "variant": "v2", "config": run, "rootfs": rootfs},
    ):
        yield json.dumps(document).encode()


def records() -> Iterator[bytes]:
    """What a store writes down."""
    name = digest.of_bytes(b"")
    origin = Origin("registry", name, "ada", 1000, "h")
    run = {"Env": ["A=b"], "Cmd": ["sh"]}
    yield Image(name, "", run, "linux/amd64", 7, (name, name), "h.io/a:1", 1.5, name, origin=origin).to_json()
    yield Layer(name, 7, name, "zstd", 4096, name, "application/x", 1.5, "b").to_json()
    yield Resolution(name, name, 1.5, "linux/amd64", "h.io/a:1", "archive:x").to_json()


def saved() -> Iterator[bytes]:
    """Archives of images."""
    content = layer([entry("f", content=b"x")])
    diff_id = digest.of_bytes(content)
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()
    listed = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]
    docker = [
        entry("manifest.json", content=json.dumps(listed).encode()),
        entry("c.json", content=config), entry("x/layer.tar", content=content), symlink("l", "x"),
        symlink("l/layer.tar", "../x/layer.tar"),
    ]  # fmt: skip
    blobs = {}

    def put(text: bytes, kind: str) -> dict[str, object]:
        name = hashlib.sha256(text).hexdigest()
        blobs[name] = text
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{name}",
            "size": len(text),
        }

    manifest = {"config": put(config, "config.v1+json"), "layers": [put(content, "layer.v1.tar")]}
    index = {"manifests": [put(json.dumps({"schemaVersion": 2, **manifest}).encode(), "manifest.v1+json")]}
    oci = [entry("oci-layout", content=b"{}"), entry("index.json", content=json.dumps(index).encode())]
    oci += [entry(f"blobs/sha256/{name}", content=text) for name, text in blobs.items()]
    for entries in (docker, oci, [*oci, *docker], BOTTOM):
        yield _short(layer(entries))
    yield gzip.compress(layer(docker), mtime=0)


def texts() -> Iterator[bytes]:
    """References and other lines."""
    yield from (
        b"ubuntu", b"docker://ada@h.io:5000#a/b:1@" + digest.of_bytes(b"").encode(), b"localhost/a",
        b"./a.sqsh", b"oci:dir:1", b"linux/arm64/v8", b'Bearer realm="https://h.io/t",service="s\\"x"',
        b"bytes 0-99/100", b"[::1]:5000/a", b"https://hub.docker.com/_/ubuntu",
        b"https://index.docker.io/v1/", b"nvcr.io/nvidia/x",
    )  # fmt: skip


def requests() -> Iterator[bytes]:
    """What the plugin asks for."""
    numbers = [("job-id", b"1"), ("step-id", b"0"), ("node-tasks", b"2")]
    base = [("protocol", b"1"), ("image", b"ubuntu"), ("working-directory", b"/home"), *numbers]
    more = [("remap-root", b"1"), ("workdir", b"/"), ("mounts", b"/a:/b:ro"), ("environment", b"A=1")]
    yield fields.encode(base)
    yield fields.encode(base + more)


def secrets() -> Iterator[bytes]:
    """Credentials files."""
    auth = base64.b64encode(b"a:b").decode()
    entries = {"h.io": {"auth": auth}, "https://h.io/v1/": {"username": "a", "password": "b"}, "h.io/a": {}}
    yield json.dumps({"auths": entries, "credHelpers": {"h.io": "pass"}, "credsStore": "x"}).encode()
    yield json.dumps({"auths": {"h.io": {"identitytoken": "t", "auth": auth}}}).encode()
    yield b"machine h.io login a password b\n# x\nmachine auth.h.io login $o password $SECRET account c\n"
    yield b"machine h.io login a password $(command)\ndefault login x\n"


def write(place: Path) -> None:
    """Write all of them below ``place``."""
    with tempfile.TemporaryDirectory() as work:
        found = {
            "layer": archives(), "image": images(Path(work)), "foreign": images(Path(work) / "foreign"),
            "unpack": images(Path(work) / "unpack"),
            "compression": compressed(), "manifest": documents(), "record": records(), "archive": saved(),
            "text": texts(), "request": requests(), "credentials": secrets(),
        }  # fmt: skip
        for name, contents in found.items():
            (place / name).mkdir(parents=True, exist_ok=True)
            for content in contents:
                (place / name / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""Sources on this machine: what users write, archives that are read in place, trees as one layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eyes import Eyes
from integration.trees import directory, entry, hardlink, layer, symlink
from pinnace.errors import PinnaceError
from pinnace.sources import archive, local, locations
from pinnace.sources.locations import Location

PLATFORM = "linux/amd64"
OCI = "application/vnd.oci.image."
HEX = "0123456789abcdef" * 4


def sha(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def source(text: str, spool: str = "", notes: list[str] | None = None) -> Any:
    location = locations.parse(text)
    assert location is not None
    return local.open_source(location, spool, (notes if notes is not None else []).append)


def name_of(text: str) -> str:
    location = locations.parse(text)
    assert location is not None
    return str(local.reference_of(location, source(text)))


def resolved(text: str) -> Any:
    location = locations.parse(text)
    assert location is not None
    found = source(text)
    return found.resolve(local.reference_of(location, found), PLATFORM)


def failure(text: str) -> PinnaceError:
    with pytest.raises(PinnaceError) as caught:
        found = resolved(text)
        opened = source(text)
        opened.resolve(found.reference, PLATFORM)
        for blob in found.layers:
            b"".join(opened.open(found, blob))
    assert "\n" not in str(caught.value)
    return caught.value


def configuration(*tars: bytes, **changes: Any) -> bytes:
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Env": ["A=1"]},
            "rootfs": {"type": "layers", "diff_ids": [sha(tar) for tar in tars]},
            **changes,
        }
    ).encode()


def saved(*images: tuple[str, list[bytes]], extra: list[Any] = (), **changes: Any) -> bytes:  # type: ignore[assignment]
    """An archive as `docker save` writes it: (name, layers) each."""
    entries, listed = list(extra), []
    for name, tars in images:
        config = configuration(*tars, **changes)
        stem = hashlib.sha256(config).hexdigest()
        entries.append(entry(f"{stem}.json", content=config))
        paths = []
        for number, tar in enumerate(tars):
            entries.append(entry(f"{stem[:8]}{number}/layer.tar", content=tar))
            paths.append(f"{stem[:8]}{number}/layer.tar")
        listed.append({"Config": f"{stem}.json", "RepoTags": [name] if name else None, "Layers": paths})
    entries.append(entry("manifest.json", content=json.dumps(listed).encode()))
    return layer(entries)


def layout_files(tag: str | None, *tars: bytes) -> dict[str, bytes]:
    """The files of an OCI layout with one image."""
    blobs = [configuration(*tars), *map(gzip.compress, tars)]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": OCI + "config.v1+json", "digest": sha(blobs[0]), "size": len(blobs[0])},
            "layers": [
                {"mediaType": OCI + "layer.v1.tar+gzip", "digest": sha(blob), "size": len(blob)}
                for blob in blobs[1:]
            ],
        }
    ).encode()
    offer: dict[str, Any] = {
        "mediaType": OCI + "manifest.v1+json",
        "digest": sha(manifest),
        "size": len(manifest),
    }
    if tag:
        offer["annotations"] = {"org.opencontainers.image.ref.name": tag}
    files = {f"blobs/sha256/{sha(blob)[7:]}": blob for blob in (*blobs, manifest)}
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [offer]}).encode()
    return files


def write_layout(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


ONE, TWO = layer([directory("./"), entry("a", content=b"1")]), layer([entry("b", content=bytes(700_000))])


# What users write


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("ubuntu", None),
        ("ubuntu:24.04", None),
        ("docker://oci:x", None),
        ("oci:dir", Location("oci", "dir")),
        ("oci:dir:v1", Location("oci", "dir", "v1")),
        (f"oci:dir@sha256:{HEX}", Location("oci", "dir", f"sha256:{HEX}")),
        ("docker-archive:f.tar:h.io:5000/a:1", Location("docker-archive", "f.tar", "h.io:5000/a:1")),
        ("tar:a:b", Location("tar", "a:b")),
        ("-", Location("", "-")),
        ("./x.tar", Location("", "./x.tar")),
        ("/x", Location("", "/x")),
    ],
)
def test_transports_have_skopeos_names(text: str, location: Location | None) -> None:
    assert locations.parse(text) == location
    assert location is None or str(location) == text


def test_a_path_that_holds_a_colon_is_found(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert locations.parse(f"oci:{tmp_path}/a:b:v1") == Location("oci", f"{tmp_path}/a:b", "v1")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/My Tool-1.2.tar.gz", "localhost/my-tool-1-2:latest"),
        ("rootfs.sqsh", "localhost/rootfs:latest"),
        ("-", "localhost/stdin:latest"),
        ("/x/...", "localhost/image:latest"),
        ("/x/dir/", "localhost/dir:latest"),
    ],
)
def test_a_file_without_a_name_gives_its_own(path: str, name: str) -> None:
    assert locations.default_name(path) == name


@given(st.text(max_size=30))
def test_any_file_name_gives_a_reference(path: str) -> None:
    from pinnace.reference import parse

    assert str(parse(locations.default_name("/" + path))) == locations.default_name("/" + path)


# Archives


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_members_are_read_in_any_order(compress: Any, tmp_path: Path) -> None:
    contents = {f"d/{number}": os.urandom(300_000 + number) for number in range(5)}
    members = [entry(name, content=content) for name, content in contents.items()]
    path = tmp_path / "x"
    path.write_bytes(
        compress(layer([directory("d"), *members, hardlink("h", "d/3"), symlink("d/s", "../h")]))
    )
    opened = archive.Archive(archive.File.open(str(path)))
    for name in [*reversed(contents), *contents]:
        assert b"".join(opened.pieces(name)) == contents[name] and opened.size(name) == len(contents[name])
    assert opened.read("d/s", 1 << 20) == contents["d/3"]
    interleaved = [opened.pieces(name) for name in contents]
    firsts = [next(pieces) for pieces in interleaved]
    assert [first + b"".join(rest) for first, rest in zip(firsts, interleaved)] == list(contents.values())


@pytest.mark.parametrize(
    ("members", "identifier"),
    [
        ([entry("../x")], "malformed-archive"),
        ([entry("/etc/passwd")], "malformed-archive"),
        ([entry("a/../../x")], "malformed-archive"),
        ([symlink("a", "/etc/passwd")], "malformed-archive"),
        ([symlink("a", "../../etc/passwd")], "malformed-archive"),
        ([hardlink("a", "../b")], "malformed-archive"),
        ([entry("a", pax={"GNU.sparse.major": "1"})], "damaged-archive"),
        ([entry("a", tarfile.GNUTYPE_SPARSE)], "damaged-archive"),
    ],
)
def test_hostile_members_are_refused(members: Any, identifier: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(layer([entry("manifest.json", content=b"[]"), *members]))
    assert failure(f"docker-archive:{path}").identifier == identifier


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(layer([symlink("manifest.json", "b"), symlink("b", "manifest.json")]))
    assert failure(f"docker-archive:{path}").identifier == "missing-blob"


def test_a_name_that_no_bytes_stand_for_is_not_there(tmp_path: Path) -> None:
    listed = [{"Config": "\ud800", "RepoTags": [], "Layers": []}]
    path = tmp_path / "x.tar"
    path.write_bytes(layer([entry("manifest.json", content=json.dumps(listed).encode())]))
    with pytest.raises(PinnaceError) as caught:
        resolved(f"docker-archive:{path}")
    assert caught.value.identifier == "missing-blob"


def test_members_that_are_no_files_are_as_if_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(layer([entry("manifest.json", tarfile.FIFOTYPE), directory("index.json")]))
    assert failure(f"docker-archive:{path}").identifier == "not-an-archive"


def test_the_table_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    path = tmp_path / "x.tar"
    path.write_bytes(layer([entry(str(number)) for number in range(11)]))
    assert "more than 10 members" in str(failure(f"docker-archive:{path}"))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_a_truncated_archive_is_refused(compress: Any, tmp_path: Path) -> None:
    content = compress(saved(("a:1", [layer([entry("r", content=os.urandom(200_000))])])))
    path = tmp_path / "x.tar"
    path.write_bytes(content[: len(content) // 2])
    assert failure(f"docker-archive:{path}").identifier == "damaged-archive"


@given(st.binary(max_size=2000))
def test_any_bytes_are_an_archive_or_an_error(content: bytes) -> None:
    with open(os.memfd_create("x"), "wb", closefd=True) as stream:
        stream.write(content)
        stream.flush()
        try:
            archive.Archive(archive.File(stream.fileno(), "x"))
        except PinnaceError:
            pass


# docker save


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_docker_archives_are_read(compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(compress(saved(("lab/tool:1", [ONE, TWO]))))
    assert name_of(f"{path}") == "docker.io/lab/tool:1"
    image = resolved(f"docker-archive:{path}")
    assert [blob.diff_id for blob in image.layers] == [sha(ONE), sha(TWO)]
    assert image.config == {"Env": ["A=1"]}
    opened = source(f"docker-archive:{path}")
    opened.resolve(image.reference, PLATFORM)
    assert [b"".join(opened.open(image, blob)) for blob in image.layers] == [ONE, TWO]


def test_one_of_several_images_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(saved(("a:1", [ONE]), ("h.io/b:2", [TWO])))
    assert [blob.diff_id for blob in resolved(f"docker-archive:{path}:h.io/b:2").layers] == [sha(TWO)]
    assert name_of(f"docker-archive:{path}:docker.io/library/a:1") == "docker.io/library/a:1"
    assert "add :NAME with one of a:1, h.io/b:2" in str(failure(f"docker-archive:{path}"))
    assert "there are a:1, h.io/b:2" in str(failure(f"docker-archive:{path}:c"))


def test_layers_that_are_links_to_others_are_found(tmp_path: Path) -> None:
    config = configuration(ONE, ONE)
    listed = [{"Config": "c.json", "RepoTags": [], "Layers": ["y/layer.tar", "x/layer.tar"]}]
    path = tmp_path / "old.tar"
    path.write_bytes(
        layer(
            [
                entry("c.json", content=config),
                entry("x/layer.tar", content=ONE),
                symlink("y/layer.tar", "../x/layer.tar"),
                entry("manifest.json", content=json.dumps(listed).encode()),
            ]
        )
    )
    image = resolved(f"docker-archive:{path}")
    assert [(blob.diff_id, blob.size) for blob in image.layers] == [(sha(ONE), len(ONE))] * 2
    assert str(image.reference) == "localhost/old:latest"


def test_the_layout_in_a_newer_archive_wins(tmp_path: Path) -> None:
    files = layout_files(None, ONE)
    index = json.loads(files["index.json"])
    index["manifests"][0]["annotations"] = {
        "io.containerd.image.name": "docker.io/library/tool:1",
        "org.opencontainers.image.ref.name": "1",
    }
    files["index.json"] = json.dumps(index).encode()
    listed = [{"Config": "none", "RepoTags": ["tool:1"], "Layers": []}]
    files["manifest.json"] = json.dumps(listed).encode()
    path = tmp_path / "x.tar"
    path.write_bytes(layer([entry(name, content=content) for name, content in files.items()]))
    for text in (f"docker-archive:{path}", f"docker-archive:{path}:tool:1", str(path)):
        assert name_of(text) == "docker.io/library/tool:1"
        assert resolved(text).digest == index["manifests"][0]["digest"]


@pytest.mark.parametrize(
    ("change", "identifier"),
    [
        ({"rootfs": {"diff_ids": [sha(ONE), sha(TWO)]}}, "malformed-manifest"),
        ({"architecture": "s390x"}, "other-platform"),
        ({"os": "windows"}, "other-platform"),
        ({"config": []}, "malformed-manifest"),
    ],
)
def test_what_a_configuration_says_is_checked(change: Any, identifier: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(saved(("a:1", [ONE]), **change))
    assert failure(f"docker-archive:{path}").identifier == identifier


@pytest.mark.parametrize("listed", ["", "{}", "[1]", '[{"Config": 1}]', '[{"Config": "c", "Layers": [1]}]'])
def test_a_malformed_manifest_is_one_error(listed: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(layer([entry("manifest.json", content=listed.encode())]))
    assert failure(f"docker-archive:{path}").identifier in ("malformed-manifest", "unknown-image")


def test_a_configuration_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    listed = [{"Config": f"{HEX}.json", "RepoTags": None, "Layers": []}]
    members = [entry("manifest.json", content=json.dumps(listed).encode())]
    path = tmp_path / "x.tar"
    path.write_bytes(layer([*members, entry(f"{HEX}.json", content=configuration())]))
    assert failure(f"docker-archive:{path}").identifier == "digest-mismatch"


# OCI layouts


@pytest.mark.parametrize("tag", ["v1", None, "docker.io/lab/tool:3", "localhost/x:1"])
def test_layouts_are_read_from_directories_and_archives(tag: str | None, tmp_path: Path) -> None:
    files = layout_files(tag, ONE, TWO)
    root = write_layout(tmp_path / "image", files)
    tar = layer([entry(name, content=content) for name, content in files.items()])
    (tmp_path / "image.tar").write_bytes(tar)
    (tmp_path / "image.tar.gz").write_bytes(gzip.compress(tar))
    texts = (f"oci:{root}", f"{root}", f"oci-archive:{root}.tar", f"{root}.tar.gz")
    images = [resolved(text) for text in texts]
    assert len({(image.digest, image.layers, str(image.reference)) for image in images}) == 1
    assert [blob.diff_id for blob in images[0].layers] == [sha(ONE), sha(TWO)]
    name = tag if tag and "/" in tag else f"localhost/image:{tag or 'latest'}"
    assert str(images[0].reference) == name
    chosen = tag or images[0].digest
    separator = ":" if tag else "@"
    assert resolved(f"oci:{root}{separator}{chosen}").digest == images[0].digest


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_blob_of_a_layout_is_refused(number: int, tmp_path: Path) -> None:
    root = write_layout(tmp_path / "l", layout_files("v1", ONE, TWO))
    blob = sorted((root / "blobs/sha256").iterdir())[number]
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert failure(f"oci:{root}").identifier == "digest-mismatch"
    blob.write_bytes(content[:-1])
    assert failure(f"oci:{root}").identifier == "digest-mismatch"
    blob.unlink()
    assert failure(f"oci:{root}").identifier == "missing-blob"


def test_several_images_of_a_layout_are_told_apart(tmp_path: Path) -> None:
    first, second = layout_files("v1", ONE), layout_files("v2", TWO)
    offers = [json.loads(files["index.json"])["manifests"][0] for files in (first, second)]
    root = write_layout(tmp_path / "l", {**first, **second})
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": offers}))
    assert resolved(f"oci:{root}:v2").digest == offers[1]["digest"]
    assert "add :TAG with one of v1, v2" in str(failure(f"oci:{root}"))
    assert "there are v1, v2" in str(failure(f"oci:{root}:v3"))


def test_an_index_of_platforms_needs_no_tag(tmp_path: Path) -> None:
    first, second = layout_files(None, ONE), layout_files(None, TWO)
    offers = [json.loads(files["index.json"])["manifests"][0] for files in (first, second)]
    offers[0]["platform"] = {"os": "linux", "architecture": "arm64"}
    offers[1]["platform"] = {"os": "linux", "architecture": "amd64"}
    root = write_layout(tmp_path / "l", {**first, **second})
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": offers}))
    assert resolved(f"oci:{root}").digest == offers[1]["digest"]


# Root file systems


def tree(root: Path) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "f").write_bytes(b"1")
    (root / "etc" / ("n" * 200)).write_bytes(os.urandom(3000))
    os.link(root / "etc" / "f", root / "g")
    (root / "l").symlink_to("/etc/f")
    os.mkfifo(root / "p")
    os.utime(root / "etc" / "f", (1, 1))
    for path in [root, *root.rglob("*")]:
        os.utime(path, (1_000_000_000, 1_000_000_000.5), follow_symlinks=False)
    return root


def test_the_same_tree_gives_the_same_image_anywhere(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "1"), tmp_path / "2"
    second.mkdir()
    names = sorted(first.rglob("*"), reverse=True)
    for path in names:  # made in another order
        target = second / path.relative_to(first)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "g":
            continue
        if path.is_symlink():
            target.symlink_to(os.readlink(path))
        elif path.is_fifo():
            os.mkfifo(target)
        elif path.is_file():
            target.write_bytes(path.read_bytes())
    os.link(second / "etc" / "f", second / "g")
    for path in [second, *second.rglob("*")]:
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    assert resolved(f"dir:{first}").digest == resolved(f"dir:{second}").digest
    (second / "etc" / "f").write_bytes(b"2")
    assert resolved(f"dir:{first}").digest != resolved(f"dir:{second}").digest


def test_a_directorys_stream_is_a_tar_archive_of_it(tmp_path: Path) -> None:
    root = tree(tmp_path / "r")
    image = resolved(f"dir:{root}")
    content = b"".join(source(f"dir:{root}").open(image, image.layers[0]))
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        members = {member.name: member for member in opened}
        body = opened.extractfile("etc/f")
        assert body is not None and body.read() == b"1"
    assert list(members) == [".", "etc", "etc/f", "etc/" + "n" * 200, "g", "l", "p"]
    assert members["g"].islnk() and members["g"].linkname == "etc/f" and members["p"].isfifo()
    assert members["l"].linkname == "/etc/f" and members["etc/f"].mtime == 1_000_000_000
    assert sha(content) == image.layers[0].diff_id


def test_sockets_are_left_out_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "r")
    before = resolved(f"dir:{root}").layers
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        os.utime(root, (1_000_000_000, 1_000_000_000))
        notes: list[str] = []
        opened = source(f"dir:{root}", notes=notes)
        assert opened.resolve(None, PLATFORM).layers == before
        opened.resolve(None, PLATFORM)
    assert len(notes) == 1 and "s is a socket" in notes[0]


def test_what_its_owner_cannot_read_is_named(tmp_path: Path, ordinary_eyes: Eyes) -> None:
    root = tree(tmp_path / "r")
    (root / "etc" / "f").chmod(0)
    with ordinary_eyes():
        error = failure(f"dir:{root}")
    assert error.identifier == "unreadable-file" and "etc/f" in str(error)


def test_a_tar_has_one_image_however_it_is_compressed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.tar", "b.tar.gz", "c.tar.zst")]
    for path, compress in zip(paths, (bytes, gzip.compress, zstandard.compress)):
        path.write_bytes(compress(TWO))
    images = [resolved(f"tar:{path}") for path in paths] + [resolved(str(path)) for path in paths]
    assert len({image.digest for image in images}) == 1
    assert images[0].layers[0].diff_id == sha(TWO)


@pytest.mark.parametrize("content", [b"", b"x" * 2000, bytes(1024), gzip.compress(b"no"), b"\x1f\x8b\x08"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    for transport in ("tar:", "docker-archive:", "oci-archive:", ""):
        error = failure(f"{transport}{path}")
        assert error.identifier in ("not-an-archive", "damaged-archive")


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("tar:/no/such", "no-such-file"),
        ("oci:/no/such", "no-such-file"),
        ("sqsh:/no/such", "no-such-file"),
        ("dir:/etc/passwd", "no-such-file"),
        ("tar:/etc", "not-an-archive"),
        ("oci:/etc", "not-an-archive"),
        ("tar:/dev/null", "unreadable-file"),
        ("sqsh:/etc/passwd", "not-squashfs"),
    ],
)
def test_each_wrong_path_has_its_error(text: str, identifier: str) -> None:
    assert failure(text).identifier == identifier

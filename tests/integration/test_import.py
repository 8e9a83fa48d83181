"""Images from files, made by programs that are not ours; squashfs files; pull policies."""

from __future__ import annotations

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.registry import Layout, Registry, run
from integration.site import StoreSite
from integration.trees import describe, directory, entry, hardlink, layer, symlink
from pinnace import imports, reference, supply
from pinnace.errors import PinnaceError
from pinnace.store import Image, Store

BASE = [directory("./"), directory("etc"), entry("etc/f", content=b"base"), entry("gone", content=b"1")]
TOP = [
    entry("data", content=bytes(300_000)),
    hardlink("d2", "data"),
    symlink("l", "etc/f"),
    entry(".wh.gone"),
]


class Site(StoreSite):
    """A store and its settings."""

    def fetch(self, text: str, **options: Any) -> tuple[str, Image]:
        found, image = imports.fetch(
            text, store=self.store, settings=self.settings, progress=lambda: self.progress, **options
        )
        return str(found), image

    def ensure(self, name: str, pull: str = "if-missing") -> Image:
        self.settings.values["pull"] = pull
        return supply.ensure(
            reference.parse(name), store=self.store, settings=self.settings, progress=lambda: self.progress
        )

    def fails(self, text: str, **options: Any) -> PinnaceError:
        with pytest.raises(PinnaceError) as caught:
            self.fetch(text, **options)
        assert self.leftovers() == [] and "\n" not in str(caught.value)
        return caught.value

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(Path(supply.__file__).parents[1])}
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; from pinnace.cli import main; sys.exit(main())", *arguments],
            env={**environment, **options.pop("env", {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def command(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """The pinnace command: exit status, output and errors."""
        process = self.start(*arguments, **options)
        output, errors = process.communicate()
        return process.returncode, output, errors


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture
def site(tmp_path: Path, registry: Registry) -> Site:
    return Site(tmp_path, registry)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """An image of two layers, as umoci makes it."""
    base = tmp_path_factory.mktemp("image")
    made = Layout(base / "layout")
    for number, entries in enumerate((BASE, TOP)):
        (base / f"{number}.tar").write_bytes(layer(entries))
        made.add_layer(base / f"{number}.tar")
    made.configure("--config.env", "A=1", "--config.cmd", "/bin/sh")
    return made


def copy(origin: str, target: str, *options: str) -> str:
    """Have skopeo copy an image; gives the target."""
    run("skopeo", "copy", "-q", *options, origin, target)
    return target


def sqsh(image: Image) -> bytes:
    return Path(image.path).read_bytes()


def test_registry_layout_and_archives_give_the_same_image(site: Site, layout: Layout, tmp_path: Path) -> None:
    site.registry.push(layout.path, "latest", "same:1")
    origin = f"oci:{layout.path}:latest"
    pulled = site.fetch(f"{site.registry.host}/same:1")[1]
    oci = copy(origin, f"oci-archive:{tmp_path}/o.tar:v1")
    docker = copy(origin, f"docker-archive:{tmp_path}/d.tar:lab/tool:1")
    (tmp_path / "o.tgz").write_bytes(gzip.compress((tmp_path / "o.tar").read_bytes()))
    run("zstd", "-q", f"{tmp_path}/d.tar", "-o", f"{tmp_path}/d.tar.zst")
    run("tar", "-C", str(layout.path), "-cf", f"{tmp_path}/gnu.tar", ".")
    names = {}
    for number, text in enumerate(
        (
            origin,
            f"{layout.path}",
            oci,
            f"{tmp_path}/o.tgz",
            f"{tmp_path}/gnu.tar",
            docker,
            f"{tmp_path}/d.tar.zst",
        )
    ):
        other = Site(tmp_path / str(number), site.registry)
        names[text], image = other.fetch(text)
        assert sqsh(image) == sqsh(pulled) and image.config == pulled.config and image.layers == pulled.layers
        assert other.progress.lines == [f"importing {text}", f"imported {text}"]
        if "d.tar" not in text:  # docker save drops the manifest
            assert image.digest == pulled.digest
    assert names[origin] == "localhost/layout:latest" and names[oci] == "localhost/o:v1"
    assert names[docker] == "docker.io/lab/tool:1"


def test_a_tree_has_one_layer_in_every_form(site: Site, layout: Layout, tmp_path: Path) -> None:
    root = tmp_path / "root"
    run("umoci", "raw", "unpack", "--image", f"{layout.path}:latest", str(root))
    os.setxattr(root / "data", "user.note", b"x")
    run("tar", "--xattrs", "--xattrs-include=user.*", "-C", str(root), "-czf", f"{tmp_path}/root.tar.gz", ".")
    run("mksquashfs", str(root), f"{tmp_path}/root.sqsh", "-quiet", "-noappend")
    wanted = describe(root)
    for number, text in enumerate(
        (f"dir:{root}", f"tar:{tmp_path}/root.tar.gz", f"sqsh:{tmp_path}/root.sqsh")
    ):
        name, image = site.fetch(text, name=f"tree:{number}")
        assert len(image.layers) == 1 and name == f"docker.io/library/tree:{number}"
        unpacked = tmp_path / f"out{number}"
        run("unsquashfs", "-q", "-n", "-d", str(unpacked), image.path)
        assert describe(unpacked) == wanted, text


def test_buildahs_archives_are_read(site: Site, layout: Layout, tmp_path: Path) -> None:
    storage = ["--root", f"{tmp_path}/storage", "--runroot", f"{tmp_path}/run", "--storage-driver", "vfs"]
    run("buildah", *storage, "from", "--name", "work", f"oci:{layout.path}:latest")
    run("buildah", *storage, "commit", "work", f"docker-archive:{tmp_path}/b.tar:lab/built:2")
    run("buildah", *storage, "commit", "work", f"oci-archive:{tmp_path}/b.oci:v3")
    docker, oci = site.fetch(f"docker-archive:{tmp_path}/b.tar"), site.fetch(f"oci-archive:{tmp_path}/b.oci")
    assert docker[0] == "docker.io/lab/built:2" and oci[0] == "localhost/b:v3"
    assert docker[1].config["Env"] == oci[1].config["Env"] and "A=1" in oci[1].config["Env"]


def test_enroots_variables_come_with_a_squashfs_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "r" / "etc").mkdir(parents=True)
    (tmp_path / "r" / "etc" / "environment").write_text("PATH=/opt/bin:/bin\n# no\nA=b c\n")
    run("mksquashfs", str(tmp_path / "r"), f"{tmp_path}/r.sqsh", "-quiet", "-noappend")
    assert site.fetch(f"{tmp_path}/r.sqsh")[1].config == {"Env": ["PATH=/opt/bin:/bin", "A=b c"]}


@pytest.mark.parametrize(
    "member", [entry("../x"), entry("/x"), entry("a", b"3"), hardlink("a", "../../etc/passwd")]
)
def test_hostile_root_trees_are_refused(member: Any, site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(layer([directory("./"), member]))
    assert site.fails(f"tar:{tmp_path}/x.tar").identifier in ("malformed-layer", "device-node")
    assert site.store.images() == []


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(
    site: Site, layout: Layout, tmp_path: Path
) -> None:
    copy(f"oci:{layout.path}:latest", f"docker-archive:{tmp_path}/d.tar:a:1")
    content = (tmp_path / "d.tar").read_bytes()
    assert content.count(b"base") == 1
    (tmp_path / "d.tar").write_bytes(content.replace(b"base", b"evil"))
    assert site.fails(f"docker-archive:{tmp_path}/d.tar").identifier == "digest-mismatch"


def test_what_was_imported_is_found_without_a_registry(site: Site, tmp_path: Path) -> None:
    (tmp_path / "my tool.tar").write_bytes(layer(BASE))
    name, image = site.fetch(f"{tmp_path}/my tool.tar")
    assert name == "localhost/my-tool:latest"
    site.settings.values["tag_ttl"] = 0
    for pull in ("always", "if-missing", "never"):
        assert site.ensure(name, pull) == image
    assert [listed for listed, _ in site.store.listing()] == [name]
    assert "cannot connect to localhost" in site.fails(name).message


def test_an_archive_may_come_by_standard_input(site: Site, layout: Layout, tmp_path: Path) -> None:
    copy(f"oci:{layout.path}:latest", f"docker-archive:{tmp_path}/d.tar:lab/piped:1")
    with (tmp_path / "d.tar").open() as stream:
        status, output, said = site.command("pull", "-", stdin=stream)
    assert said == "pinnace: importing standard input\npinnace: imported standard input\n"
    assert status == 0 and output.startswith("docker.io/lab/piped:1@sha256:") and output.count("\n") == 1
    with (tmp_path / "d.tar").open() as stream:
        assert site.command("import", "--name", "x/y:2", "tar:-", stdin=stream)[1].startswith(
            "docker.io/x/y:2@"
        )
    assert site.leftovers() == []


def test_a_directory_that_changes_meanwhile_gives_no_image(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pinnace.sources.rootfs import RootSource

    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "f").write_bytes(b"1")
    opened = RootSource.open

    def changed(self: RootSource, image: Any, blob: Any) -> Iterator[bytes]:
        (tmp_path / "r" / "f").write_bytes(b"2")
        return opened(self, image, blob)

    monkeypatch.setattr(RootSource, "open", changed)
    assert site.fails(f"dir:{tmp_path}/r").identifier == "digest-mismatch"
    assert site.store.images() == []


# Squashfs files


def test_output_writes_a_file_with_the_users_umask(site: Site, layout: Layout, tmp_path: Path) -> None:
    source, target = f"oci:{layout.path}", tmp_path / "out" / "tool.sqsh"
    target.parent.mkdir()
    status, output, errors = site.command("pull", "-o", str(target), source, umask=0o027)
    assert status == 0, errors
    image = site.store.images()[0]
    assert output == f"localhost/layout:latest@{image.digest}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert site.command("run", "--dry-run", str(target), "true")[0] == 0
    first = target.read_bytes()
    status, output, errors = site.command("pull", "-q", "-o", str(target), source)
    assert (status, output, errors) == (1, "", f"pinnace: error: {target} exists; --force replaces it\n")
    target.write_bytes(b"old")
    assert site.command("pull", "-q", "-f", "-o", str(target), source)[0] == 0
    assert target.read_bytes() == first
    assert [path.name for path in target.parent.iterdir()] == ["tool.sqsh"]


def test_a_file_holds_its_configuration_as_enroot_writes_it(
    site: Site, layout: Layout, tmp_path: Path
) -> None:
    target, unpacked = tmp_path / "x.sqsh", tmp_path / "out"
    assert site.command("pull", "-o", str(target), f"oci:{layout.path}")[0] == 0
    run("unsquashfs", "-q", "-n", "-d", str(unpacked), str(target))
    assert "A=1\n" in (unpacked / "etc/environment").read_text()
    assert (unpacked / "etc/f").read_text() == "base" and not (unpacked / "gone").exists()
    ran = subprocess.run(["sh", unpacked / "etc/rc", "echo", "a b"], capture_output=True, text=True)
    assert ran.stdout == "a b\n" and "exec /bin/sh" in (unpacked / "etc/rc").read_text()
    assert (unpacked / "etc/fstab").read_text() == "" and (unpacked / "etc/rc.local").exists()
    before = site.store.images()[0].config
    again = site.fetch(str(target))[1]
    assert again.config == {"Env": before["Env"], "Cmd": before["Cmd"]}


def test_a_file_without_a_configuration_is_the_stores(site: Site, tmp_path: Path) -> None:
    (tmp_path / "r.tar").write_bytes(layer(BASE))
    assert site.command("pull", "-o", f"{tmp_path}/x.sqsh", f"tar:{tmp_path}/r.tar")[0] == 0
    assert (tmp_path / "x.sqsh").read_bytes() == sqsh(site.store.images()[0])


def test_a_file_has_the_directory_that_its_image_names(site: Site, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    (tmp_path / "base.tar").write_bytes(layer([directory("./"), directory("srv", mode=0o700)]))
    made.add_layer(tmp_path / "base.tar")
    made.configure("--config.workingdir", "/srv/my/dir")
    target = tmp_path / "x.sqsh"
    assert site.command("pull", "-o", str(target), f"oci:{made.path}")[0] == 0
    listed = run("unsquashfs", "-ll", str(target))
    assert "squashfs-root/srv/my/dir\n" in listed and "drwx------" in listed  # /srv is as it was


@pytest.mark.parametrize(
    ("name", "file"),
    [("lab/tool:1.2", "lab+tool+1.2.sqsh"), ("tool", "tool+latest.sqsh"), ("h.io#a/b/c:x", "a+b+c+x.sqsh")],
)
def test_in_a_directory_files_are_called_as_by_enroot(
    name: str, file: str, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "r.tar").write_bytes(layer(BASE))
    (tmp_path / "out").mkdir()
    assert site.command("pull", "-o", f"{tmp_path}/out", "--name", name, f"tar:{tmp_path}/r.tar")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [file]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "/no/such/x.sqsh", "a"], "there is no directory /no/such"),
        (["-o", "x.sqsh", "a", "b"], "is to hold several images"),
        (["-n", "x", "a", "b"], "--name is for one image"),
        (["-n", "x", "ubuntu"], "--name is for images from files"),
        (["-n", "x@sha256:" + "0" * 64, "tar:x"], "holds a digest"),
        (["tar:"], "names no file"),
        (["--platform", "x y", "tar:x"], "is no platform"),
    ],
)
def test_wrong_uses_of_pull_are_told_before_anything_is_done(
    arguments: list[str], message: str, site: Site
) -> None:
    status, output, errors = site.command("pull", *arguments, stdin=subprocess.DEVNULL)
    assert status in (1, 2) and output == "" and message in errors and errors.count("\n") == 1
    assert not site.root.exists()


def test_a_file_that_cannot_be_finished_is_not_there(site: Site, tmp_path: Path) -> None:
    from pinnace.store import output

    with pytest.raises(PinnaceError):
        output.write(lambda path: output.copy("/no/such", path), str(tmp_path / "x.sqsh"), force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_import_leaves_temporary_files_only(seed: int, site: Site, tmp_path: Path) -> None:
    tar = tmp_path / "large.tar"
    tar.write_bytes(layer([entry(f"f{n}", content=os.urandom(4 << 20)) for n in range(6)]))
    process = site.start("pull", f"tar:{tar}")
    if seed % 2:  # within the conversion
        while not list(site.root.glob("tmp/*/*-*")) and process.poll() is None:
            time.sleep(0.005)
    time.sleep(0.02 * seed)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for path in site.root.glob("*/sha256/*.sqsh"):
        run("unsquashfs", "-lc", str(path))
    image = site.fetch(f"tar:{tar}")[1]
    assert site.leftovers() == [] and site.store.images() == [image]


# Pull policies


@pytest.fixture
def cached(site: Site, layout: Layout) -> str:
    """A reference that is in the store, and whose tag has expired; its registry is gone."""
    name = site.registry.push(layout.path, "latest", "cached:1")
    site.fetch(name)
    gone = name.replace(site.registry.host, "127.0.0.1:1")
    parsed = [reference.parse(text) for text in (name, gone)]
    old, new = (Path(site.store.resolution_path(one, "linux/amd64")) for one in parsed)
    new.parent.mkdir(parents=True)
    document = json.loads(old.read_text())
    new.write_text(json.dumps({**document, "time": document["time"] - 7200, "reference": gone}))
    old.unlink()
    site.progress.lines.clear()
    return gone


def test_never_uses_what_is_there_and_asks_nobody(site: Site, cached: str) -> None:
    assert site.ensure(cached, "never") == site.store.images()[0]
    assert site.progress.lines == []


def test_never_names_what_is_cached_instead(site: Site, cached: str) -> None:
    with pytest.raises(PinnaceError) as caught:
        site.ensure("127.0.0.1:1/cached:2", "never")
    assert caught.value.identifier == "not-in-store"
    assert f"it has {cached}" in str(caught.value) and "pull = never" in str(caught.value)
    with pytest.raises(PinnaceError, match="it is empty"):
        supply.ensure(reference.parse("x"), store=Store(str(site.base / "none")), settings=site.settings)


def test_an_expired_tag_is_used_with_a_note_if_the_registry_is_gone(site: Site, cached: str) -> None:
    assert site.ensure(cached) == site.store.images()[0]
    assert len(site.progress.lines) == 1
    assert (
        "cannot connect to 127.0.0.1:1" in site.progress.lines[0] and "as it was on" in site.progress.lines[0]
    )


def test_always_fails_if_the_registry_is_gone(site: Site, cached: str) -> None:
    with pytest.raises(PinnaceError) as caught:
        site.ensure(cached, "always")
    assert caught.value.identifier == "registry-unreachable"
    assert site.fails(cached).identifier == "registry-unreachable"


def test_a_digest_is_never_asked_for(site: Site, cached: str) -> None:
    image = site.store.images()[0]
    for pull in ("always", "if-missing", "never"):
        assert site.ensure(f"127.0.0.1:1/cached@{image.digest}", pull) == image


def test_a_registry_that_says_no_is_believed(site: Site, layout: Layout) -> None:
    name = site.registry.push(layout.path, "latest", "refused:1")
    parsed = reference.parse(name)
    site.fetch(name)
    path = Path(site.store.resolution_path(parsed, "linux/amd64"))
    document = json.loads(path.read_text())
    gone = reference.parse(name.replace(":1", ":2"))
    other = Path(site.store.resolution_path(gone, "linux/amd64"))
    other.parent.mkdir()
    other.write_text(json.dumps({**document, "time": 1.0}))
    with pytest.raises(PinnaceError) as caught:
        site.ensure(str(gone))
    assert caught.value.identifier == "unknown-tag"


def test_the_policy_is_an_option_and_a_variable(site: Site, cached: str) -> None:
    digest = site.store.images()[0].digest
    status, output, errors = site.command("run", "--pull", "never", "--dry-run", cached, "true")
    assert status == 0, errors
    assert f"PINNACE_IMAGE_DIGEST={digest}" in output
    assert site.command("run", "--dry-run", cached, "true", env={"PINNACE_PULL": "never"})[0] == 0
    status, _, errors = site.command("run", "--dry-run", cached, "true", env={"PINNACE_PULL": "always"})
    assert status == 125 and "cannot connect" in errors
    status, _, errors = site.command("run", "--pull", "no", "--dry-run", cached, "true")
    assert status == 2 and "one of always, if-missing, never is expected" in errors

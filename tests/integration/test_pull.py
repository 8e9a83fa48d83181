"""Pulling from a real registry: what arrives, what is asked, and what each failure says."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard

from integration.registry import Layout, Registry, run
from integration.site import StoreSite
from integration.trees import directory, entry, layer
from pinnace import reference, supply
from pinnace.errors import PinnaceError, RegistryError
from pinnace.sources import LayerBlob, SourceImage, Use
from pinnace.sources.registry import RegistrySource
from pinnace.store import Image

BASE = [directory("./"), directory("etc"), entry("etc/os-release", content=b"NAME=Test\n")]
TOP = [directory("./"), entry("data", content=os.urandom(3 << 20)), entry("etc/.wh.nothing")]
OCI = "application/vnd.oci.image"


class Site(StoreSite):
    """A store, its settings and the registry."""

    def ensure(self, name: str, **options: Any) -> Image:
        parsed = reference.parse(name if "/" in name.partition(":")[2] else f"{self.registry.host}/{name}")
        options.setdefault("progress", lambda: self.progress)
        return supply.ensure(parsed, store=self.store, settings=self.settings, **options)

    def fails(self, name: str, **options: Any) -> PinnaceError:
        """Pull what cannot be pulled; the store must be as it was."""
        before = self.objects()
        with pytest.raises(PinnaceError) as caught:
            self.ensure(name, **options)
        assert self.leftovers() == []
        assert [path for path in before if not path.exists()] == []
        assert "\n" not in str(caught.value)
        return caught.value

    def objects(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """The pinnace command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; from pinnace.cli import main; sys.exit(main())", *arguments],
            env={**os.environ, **self.environment, "PYTHONPATH": str(Path(supply.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture
def site(tmp_path: Path, registry: Registry) -> Site:
    return Site(tmp_path, registry)


@pytest.fixture(scope="module")
def image(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of two layers with a configuration, as umoci makes it."""
    base = tmp_path_factory.mktemp("image")
    layout = Layout(base / "layout")
    for number, entries in enumerate((BASE, TOP)):
        (base / f"{number}.tar").write_bytes(layer(entries))
        layout.add_layer(base / f"{number}.tar")
    layout.configure("--config.env", "A=1", "--config.cmd", "/bin/sh", "--config.workingdir", "/etc")
    registry.push(layout.path, "latest", "test/image:1")
    registry.push(layout.path, "latest", "test/docker:1", "--format", "v2s2")
    return "test/image:1"


def put_image(registry: Registry, name: str, layers: list[tuple[bytes, bytes, str]], **changes: Any) -> str:
    """Push an image made of (blob, tar, media type) by hand; gives its manifest's digest."""
    platform = {"os": "linux", "architecture": "amd64"}
    rootfs = {
        "type": "layers",
        "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for _, tar, _ in layers],
    }
    configuration = {**platform, "config": {}, "rootfs": rootfs, **changes.pop("configuration", {})}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {
            "mediaType": f"{OCI}.config.v1+json",
            **registry.put_blob(name, json.dumps(configuration).encode()),
        },
        "layers": [{"mediaType": kind, **registry.put_blob(name, blob)} for blob, _, kind in layers],
        **changes,
    }
    content = json.dumps(manifest).encode()
    registry.put_manifest(name, "1", content, f"{OCI}.manifest.v1+json")
    return "sha256:" + hashlib.sha256(content).hexdigest()


def one_layer(content: bytes = b"1") -> tuple[bytes, bytes, str]:
    tar = layer([directory("./"), entry("f", content=content)])
    return gzip.compress(tar), tar, f"{OCI}.layer.v1.tar+gzip"


def test_the_configuration_comes_with_the_image(site: Site, image: str) -> None:
    pulled = site.ensure(image)
    assert pulled.config["Cmd"] == ["/bin/sh"] and pulled.config["WorkingDir"] == "/etc"
    assert "A=1" in pulled.config["Env"]


def test_docker_manifests_are_read(site: Site, image: str) -> None:
    assert len(site.ensure("test/docker:1").layers) == 2


def test_records_of_layers_tell_the_files_own_digests(site: Site, image: str) -> None:
    for diff_id in site.ensure(image).layers:
        layer, content = site.store.layer(diff_id), Path(site.store.layer_path(diff_id)).read_bytes()
        assert layer is not None and layer.sha256 == "sha256:" + hashlib.sha256(content).hexdigest()


def test_start_and_end_of_an_import_are_told(site: Site, image: str) -> None:
    site.ensure(image)
    name = f"{site.registry.host}/{image}"
    assert site.progress.lines == [f"importing docker image: {name}", f"imported docker image: {name}"]


def test_nothing_but_objects_is_left_after_a_pull(site: Site, image: str) -> None:
    site.ensure(image)
    assert site.leftovers() == []


@pytest.mark.parametrize("compress", ["plain", "gzip", "zstd", "two gzip members", "mislabelled zstd"])
def test_every_kind_of_layer_is_read(compress: str, site: Site, registry: Registry) -> None:
    tar = layer([directory("./"), entry("f", content=os.urandom(100_000))])
    blob, kind = {
        "plain": (tar, "tar"),
        "gzip": (gzip.compress(tar), "tar+gzip"),
        "zstd": (zstandard.compress(tar), "tar+zstd"),
        "two gzip members": (gzip.compress(tar[:5000]) + gzip.compress(tar[5000:]), "tar+gzip"),
        "mislabelled zstd": (zstandard.compress(tar), "tar+gzip"),
    }[compress]
    name = "kinds/" + re.sub("[^a-z]", "-", compress)
    put_image(registry, name, [(blob, tar, f"{OCI}.layer.v1.{kind}")])
    listing = run("unsquashfs", "-lc", site.ensure(f"{name}:1").path)
    assert listing.split() == ["squashfs-root/f"]


def test_a_layer_that_is_there_twice_is_converted_once(site: Site, registry: Registry) -> None:
    put_image(registry, "twice", [one_layer(), one_layer()])
    pulled = site.ensure("twice:1")
    assert len(pulled.layers) == 2 and len(list((site.root / "layers/sha256").glob("*.sqsh"))) == 1


def test_the_platforms_manifest_is_chosen_from_an_index(site: Site, registry: Registry) -> None:
    arm = {"configuration": {"architecture": "arm64"}}
    digests = {"amd64": put_image(registry, "multi", [one_layer(b"amd")])}
    digests["arm64"] = put_image(registry, "multi", [one_layer(b"arm")], **arm)
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": f"{OCI}.manifest.v1+json",
                "digest": digest,
                "size": 1,
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, digest in digests.items()
        ],
    }
    registry.put_manifest("multi", "1", json.dumps(index).encode(), f"{OCI}.index.v1+json")
    pulled = {name: site.ensure("multi:1", platform=f"linux/{name}").digest for name in digests}
    assert pulled == digests
    missing_platform = site.fails("multi:1", platform="linux/s390x")
    assert missing_platform.identifier == "other-platform" and "linux/amd64, linux/arm64" in str(
        missing_platform
    )


def test_an_image_for_another_platform_only_is_refused(site: Site, registry: Registry) -> None:
    put_image(registry, "foreign", [one_layer()], configuration={"architecture": "s390x"})
    error = site.fails("foreign:1")
    assert error.identifier == "other-platform" and "linux/s390x" in str(error)


def test_a_fresh_tag_takes_no_network(site: Site, image: str) -> None:
    pulled = site.ensure(image)
    parsed = reference.parse(f"{site.registry.host}/{image}")
    assert site.store.lookup(parsed, pulled.platform, 3600) == pulled
    assert site.store.lookup(parsed, pulled.platform, 0) is None


def test_a_digest_takes_no_network(site: Site, image: str) -> None:
    pulled = site.ensure(image)
    parsed = reference.parse(f"{site.registry.host}/test/image@{pulled.digest}")
    assert site.store.lookup(parsed, pulled.platform, 0) == pulled


def test_an_unchanged_tag_fetches_nothing_but_its_digest(site: Site, image: str) -> None:
    pulled = site.ensure(image)
    parsed = reference.parse(f"{site.registry.host}/{image}")
    source = RegistrySource.of(parsed, site.settings)
    source.resolve = None  # type: ignore[assignment, method-assign]
    assert site.ensure(image, refresh=True, source=source) == pulled


def test_a_moved_tag_gives_the_new_image_and_keeps_common_layers(site: Site, registry: Registry) -> None:
    put_image(registry, "moved", [one_layer(b"base"), one_layer(b"1")])
    old = site.ensure("moved:1")
    base = site.store.layer_path(old.layers[0])
    time_of_base = os.stat(base).st_mtime_ns
    put_image(registry, "moved", [one_layer(b"base"), one_layer(b"2")])
    assert site.ensure("moved:1").digest == old.digest
    assert site.ensure("moved:1", refresh=True).digest != old.digest
    assert os.stat(base).st_mtime_ns == time_of_base


def test_an_unknown_image_is_named(site: Site) -> None:
    error = site.fails("no/such:1")
    assert error.identifier == "unknown-image" and "no/such" in str(error)


def test_an_unknown_tag_is_named_with_those_there_are(site: Site, image: str) -> None:
    error = site.fails("test/image:2")
    assert error.identifier == "unknown-tag" and "there are the tags 1" in str(error)


def test_a_refused_connection_is_told_at_once(site: Site) -> None:
    error = site.fails("127.0.0.1:1/a/b:1")
    assert error.identifier == "registry-unreachable" and "Connection refused" in str(error)


def damaged(registry: Registry, name: str, change: Any) -> None:
    put_image(registry, name, [one_layer(os.urandom(100_000))])
    layers: Any = registry.manifest(name, "1")["layers"]
    path = registry.blob_file(layers[0]["digest"])
    path.write_bytes(change(path.read_bytes()))


def test_a_corrupted_layer_is_refused(site: Site, registry: Registry) -> None:
    damaged(registry, "corrupt", lambda blob: blob[:-20] + bytes([blob[-20] ^ 1]) + blob[-19:])
    assert site.fails("corrupt:1").identifier in ("digest-mismatch", "damaged-layer")


def test_a_layer_with_another_content_of_the_same_length_is_refused(site: Site, registry: Registry) -> None:
    tar = layer([directory("./"), entry("f", content=b"1")])
    put_image(registry, "swapped", [(tar, tar, f"{OCI}.layer.v1.tar")])
    layers: Any = registry.manifest("swapped", "1")["layers"]
    path = registry.blob_file(layers[0]["digest"])
    path.write_bytes(layer([directory("./"), entry("f", content=b"2")]))
    assert site.fails("swapped:1").identifier == "digest-mismatch"


def test_a_truncated_layer_is_refused(site: Site, registry: Registry) -> None:
    damaged(registry, "short", lambda blob: blob[:50_000])
    error = site.fails("short:1")
    assert error.identifier == "truncated-blob" and "sha256:" in str(error)


def test_a_wrong_diff_id_is_refused(site: Site, registry: Registry) -> None:
    blob, _, kind = one_layer(b"x")
    put_image(registry, "liar", [(blob, b"something else", kind)])
    assert site.fails("liar:1").identifier == "digest-mismatch"


def test_what_is_no_image_is_refused_by_name(site: Site, registry: Registry) -> None:
    config_blob = {
        "mediaType": "application/vnd.cncf.helm.config.v1+json",
        **registry.put_blob("chart", b"{}"),
    }
    put_image(registry, "chart", [one_layer()], config=config_blob)
    error = site.fails("chart:1")
    assert error.identifier == "not-an-image" and "application/vnd.cncf.helm.config.v1+json" in str(error)


def test_a_layer_that_unpacks_to_too_much_is_refused(site: Site, registry: Registry) -> None:
    put_image(registry, "bomb", [one_layer(bytes(64 << 20))])
    site.settings.values["max_layer_size"] = 1 << 20
    assert site.fails("bomb:1").identifier == "layer-too-large"


def test_a_bad_layer_among_good_ones_leaves_a_sound_store(site: Site, registry: Registry) -> None:
    good = [one_layer(os.urandom(1 << 20)) for _ in range(4)]
    hostile = layer([entry("../x")])
    put_image(registry, "mixed", [*good, (gzip.compress(hostile), hostile, f"{OCI}.layer.v1.tar+gzip")])
    assert site.fails("mixed:1").identifier == "malformed-layer"
    for path in (site.root / "layers/sha256").glob("*.sqsh"):
        run("unsquashfs", "-lc", str(path))


def test_two_processes_that_want_one_image_do_the_work_once(site: Site, image: str) -> None:
    name = f"{site.registry.host}/{image}"
    processes = [site.command("pull", name) for _ in range(3)]
    outputs = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert "".join(outputs).count("imported docker image") == 1
    assert site.leftovers() == []


def test_a_killed_pull_leaves_temporary_files_that_the_next_removes(site: Site, registry: Registry) -> None:
    put_image(registry, "large", [one_layer(os.urandom(40 << 20)) for _ in range(2)])
    process = site.command("pull", f"{registry.host}/large:1")
    while not list(site.root.glob("tmp/*/*-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    children = subprocess.run(["pgrep", "-f", f"tar2sqfs.*{site.root}"], capture_output=True, text=True)
    assert [path for path in site.objects() if path.parts[len(site.root.parts)] in ("layers", "images")] == []
    site.ensure("large:1")
    assert site.leftovers() == [], children.stdout
    # tar2sqfs does not outlive its parent: if it did, this would last until the test's time is up.
    while subprocess.run(["pgrep", "-f", f"tar2sqfs.*{site.root}"], capture_output=True).returncode == 0:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_pull_that_is_ended_leaves_nothing(number: signal.Signals, site: Site, registry: Registry) -> None:
    put_image(registry, "ended", [one_layer(os.urandom(40 << 20))])
    process = site.command("pull", f"{registry.host}/ended:1")
    while not list(site.root.glob("locks/layer-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 128 + number and site.leftovers() == []
    assert "Traceback" not in said and "error" not in said


def test_a_failure_is_told_though_another_transfer_stands_still(site: Site, registry: Registry) -> None:
    put_image(registry, "stalled", [one_layer(b"1"), one_layer(b"2")])
    parsed = reference.parse(f"{registry.host}/stalled:1")
    source = RegistrySource.of(parsed, site.settings)
    begun, end, ended = threading.Event(), threading.Event(), threading.Event()

    def stalled(resolved: SourceImage, blob: LayerBlob, use: Use) -> None:
        if blob == resolved.layers[0]:
            begun.set()
            end.wait(60)
            ended.set()
        assert begun.wait(10)
        raise RegistryError("gone")

    source.read = stalled  # type: ignore[method-assign]
    try:
        assert "gone" in str(site.fails("stalled:1", source=source))
        assert not ended.is_set()
    finally:
        end.set()


def test_a_waiting_process_takes_over_from_one_that_dies(site: Site, registry: Registry) -> None:
    put_image(registry, "takeover", [one_layer(os.urandom(40 << 20))])
    first = site.command("pull", f"{registry.host}/takeover:1")
    while not list(site.root.glob("locks/image-*")) and first.poll() is None:
        time.sleep(0.01)
    second = site.command("pull", f"{registry.host}/takeover:1")
    first.send_signal(signal.SIGSTOP)
    assert second.stderr is not None
    assert "waiting for another process" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second.communicate()
    assert second.returncode == 0 and site.leftovers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
def test_a_full_disk_is_one_clear_error(site: Site, registry: Registry, tmp_path: Path) -> None:
    put_image(registry, "huge", [one_layer(os.urandom(8 << 20))])
    site.root.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "none", str(site.root))
    try:
        error = site.fails("huge:1")
    finally:
        run("umount", str(site.root))
    assert error.identifier == "disk-full" and str(site.root) in str(error)


def run_isolated(site: Site, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """`pinnace run` as it is installed, without site-packages; the executor is not needed to plan."""
    library = str(Path(supply.__file__).parents[1])
    script = f"import sys; sys.path.insert(0, {library!r}); from pinnace.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-IS", "-c", script, "run", "--dry-run", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "PINNACE_OVERLAY": "kernel",
            **site.environment,
        },
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def test_a_run_that_has_to_pull_says_so_in_lines(site: Site, image: str) -> None:
    name = f"{site.registry.host}/{image}"
    lines = [f"pinnace: {verb} docker image: {name}" for verb in ("importing", "imported")]
    for said in (lines, []):
        process = run_isolated(site, name, "true")
        plan, errors = process.communicate()
        assert process.returncode == 0 and errors.splitlines() == said
        assert ["command", "true"] in json.loads(plan)


def test_a_run_that_has_to_pull_shows_progress_on_a_terminal(site: Site, image: str) -> None:
    terminal, stderr = pty.openpty()
    process = run_isolated(site, f"{site.registry.host}/{image}", "true", stderr=stderr)
    os.close(stderr)
    shown = b""
    with suppress(OSError):  # EIO: nobody has it open any more
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    process.communicate()
    assert process.returncode == 0 and b"total" in shown and b"imported docker image" in shown


def test_pull_prints_what_each_image_is_now(site: Site, registry: Registry, image: str) -> None:
    put_image(registry, "second", [one_layer(b"second")])
    names = [f"{registry.host}/{image}", f"{registry.host}/second:1"]
    for _ in range(2):
        process = site.command("pull", *names)
        printed = [line.rpartition("@") for line in process.communicate()[0].splitlines()]
        assert process.returncode == 0 and [name for name, _, _ in printed] == names
        assert [digest for _, _, digest in printed] == [site.ensure(name).digest for name in names]
    assert site.command("pull", "-q", *names).communicate() == ("", "")


def test_images_lists_references_and_inspect_describes_them(site: Site, image: str) -> None:
    pulled = site.ensure(image)
    name = f"{site.registry.host}/{image}"
    table, _ = site.command("images").communicate()
    assert name in table and pulled.digest[7:19] in table
    listed = json.loads(site.command("images", "--json").communicate()[0])
    assert [item["reference"] for item in listed] == [name]
    assert json.loads(site.command("inspect", name).communicate()[0])["digest"] == pulled.digest
    assert json.loads(site.command("inspect", pulled.path).communicate()[0])["compressor"] == "zstd"


def test_rm_removes_the_image_and_layers_that_no_other_uses(site: Site, registry: Registry) -> None:
    put_image(registry, "one", [one_layer(b"common"), one_layer(b"one")])
    put_image(registry, "two", [one_layer(b"common"), one_layer(b"two")])
    one, two = site.ensure("one:1"), site.ensure("two:1")
    process = site.command("rm", f"{registry.host}/one:1")
    assert process.communicate()[1] == "" and process.returncode == 0
    assert not Path(one.path).exists() and Path(two.path).exists()
    layers = {"sha256:" + path.stem for path in (site.root / "layers/sha256").iterdir()}
    assert layers == set(two.layers)
    assert site.store.images() == [two] and site.leftovers() == []


def test_rm_names_what_is_not_there_and_removes_the_rest(site: Site, registry: Registry) -> None:
    put_image(registry, "one", [one_layer(b"one")])
    site.ensure("one:1")
    process = site.command("rm", "nothing:1", f"{registry.host}/one:1", "nothing:2")
    output, errors = process.communicate()
    assert process.returncode == 1 and output.startswith(f"removed {registry.host}/one:1, ")
    missing = [f"pinnace: error: docker.io/library/nothing:{n} is not in the store" for n in (1, 2)]
    assert [line.partition(" (")[0] for line in errors.splitlines()] == missing
    assert site.store.images() == [] and site.leftovers() == []


def test_rm_of_a_name_that_is_none_removes_nothing(site: Site, registry: Registry) -> None:
    put_image(registry, "one", [one_layer(b"one")])
    image = site.ensure("one:1")
    process = site.command("rm", f"{registry.host}/one:1", "UPPER")
    assert "UPPER" in process.communicate()[1] and process.returncode == 1
    assert site.store.images() == [image]

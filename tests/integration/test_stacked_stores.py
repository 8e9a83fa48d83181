"""A site's store below a user's own: starts, pulls and splices across the two."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import sound
from integration.registry import Layout, Registry, run
from integration.site import StoreSite
from integration.trees import directory, entry, layer
from pinnace import reference, supply
from pinnace.store import Image, Store

BASE = [
    directory("./"),
    directory("etc"),
    entry("etc/f", content=b"base"),
    entry("big", content=bytes(70_000)),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Two images: ``base`` and, with one layer more, ``latest``."""
    base = tmp_path_factory.mktemp("image")
    made = Layout(base / "layout")
    (base / "base.tar").write_bytes(layer(BASE))
    made.add_layer(base / "base.tar")
    run("umoci", "tag", "--image", f"{made.path}:latest", "base")
    (base / "top.tar").write_bytes(layer([entry("top", content=b"top"), entry("etc/.wh.f")]))
    made.add_layer(base / "top.tar")
    return made


class Stacked:
    """A user's site whose additional store another one filled."""

    def __init__(self, base: Path, registry: Registry) -> None:
        self.base = base
        self.site, self.user = StoreSite(base / "site", registry), StoreSite(base / "user", registry)
        self.user.settings.values["additional_stores"] = (self.site.store.root,)

    def ensure(self, site: StoreSite, name: str, **options: bool) -> Image:
        return supply.ensure(
            reference.parse(name),
            store=site.store,
            settings=site.settings,
            progress=lambda: site.progress,
            **options,  # type: ignore[arg-type]
        )

    def objects(self) -> list[str]:
        """The user's own layers and images."""
        return sorted(path.parts[-3] for path in self.user.root.glob("*/sha256/*.sqsh"))


@pytest.fixture
def stacked(tmp_path: Path, registry: Registry) -> Stacked:
    for name in ("site", "user"):
        (tmp_path / name).mkdir()
    return Stacked(tmp_path, registry)


def test_an_image_of_the_site_starts_without_a_copy(stacked: Stacked, layout: Layout) -> None:
    name = stacked.site.registry.push(layout.path, "base", "started:1")
    image = stacked.ensure(stacked.site, name)
    assert stacked.ensure(stacked.user, name) == image and image.store == stacked.site.store.root
    assert not stacked.user.root.exists() and stacked.user.progress.lines == []


def test_a_pull_of_an_image_that_the_site_has_writes_its_name_alone(stacked: Stacked, layout: Layout) -> None:
    name = stacked.site.registry.push(layout.path, "base", "named:1")
    image = stacked.ensure(stacked.site, name)
    assert stacked.ensure(stacked.user, name, refresh=True) == image
    assert stacked.objects() == []
    assert [known.reference for known in stacked.user.store.resolutions()] == [name]


def test_layers_of_the_site_are_neither_downloaded_nor_converted(stacked: Stacked, layout: Layout) -> None:
    base = stacked.site.registry.push(layout.path, "base", "shared/base:1")
    stacked.ensure(stacked.site, base)
    top = stacked.site.registry.push(layout.path, "latest", "shared/top:1")
    digest = json.loads((layout.path / "index.json").read_text())["manifests"][0]["digest"]
    first = json.loads((layout.path / "blobs" / "sha256" / digest[7:]).read_text())["layers"][0]["digest"]
    blob = stacked.site.registry.blob_file(first)
    blob.rename(blob.with_suffix(".away"))
    try:
        image = stacked.ensure(stacked.user, top)
    finally:
        blob.with_suffix(".away").rename(blob)
    assert image.store == stacked.user.store.root and stacked.objects() == ["images", "layers"]
    run("unsquashfs", "-q", "-n", "-d", str(stacked.base / "out"), image.path)
    assert sorted(path.name for path in (stacked.base / "out").rglob("*")) == ["big", "etc", "top"]
    assert stacked.user.leftovers() == []


def test_layers_come_from_a_site_on_another_file_system(stacked: Stacked, layout: Layout) -> None:
    base, top = (stacked.site.registry.push(layout.path, tag, f"far/{tag}:1") for tag in ("base", "latest"))
    other = stacked.base / "other"
    other.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", str(other))
    try:
        far = StoreSite(other, stacked.site.registry)
        stacked.ensure(far, base)
        run("mount", "-o", "remount,ro", str(other))
        stacked.user.settings.values["additional_stores"] = (far.store.root,)
        near = stacked.ensure(stacked.user, top)
        assert stacked.objects() == ["images", "layers"]
    finally:
        run("umount", str(other))
    undisturbed = stacked.ensure(stacked.site, top)
    assert Path(near.path).read_bytes() == Path(undisturbed.path).read_bytes()


def test_a_site_with_another_block_size_still_starts_images_and_is_told_when_a_layer_is_wanted(
    stacked: Stacked, layout: Layout
) -> None:
    stacked.site.settings.values["block_size"] = 4096
    base, top = (stacked.site.registry.push(layout.path, tag, f"form/{tag}:1") for tag in ("base", "latest"))
    stacked.ensure(stacked.site, base)
    assert stacked.ensure(stacked.user, base).store == stacked.site.store.root
    assert stacked.ensure(stacked.user, top).store == stacked.user.store.root
    assert stacked.objects() == ["images", "layers", "layers"]


def command(stacked: Stacked, *arguments: str) -> subprocess.CompletedProcess[str]:
    import os
    import sys

    source = "import sys; from pinnace.cli import main; sys.exit(main())"
    environment = {
        **os.environ,
        **stacked.user.environment,
        "PINNACE_ADDITIONAL_STORES": stacked.site.store.root,
        "PYTHONPATH": str(Path(supply.__file__).parents[1]),
    }
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], env=environment, capture_output=True, text=True
    )


def test_the_commands_say_which_store_an_image_is_in(stacked: Stacked, layout: Layout) -> None:
    name = stacked.site.registry.push(layout.path, "base", "said:1")
    image = stacked.ensure(stacked.site, name)
    root = stacked.site.store.root
    listed = command(stacked, "images").stdout.splitlines()
    assert listed[0].endswith("  STORE") and listed[1].startswith(name) and listed[1].endswith(f"  {root}")
    assert json.loads(command(stacked, "images", "--json").stdout)[0]["store"] == root
    assert json.loads(command(stacked, "inspect", name).stdout)["store"] == root
    planned = command(stacked, "run", "--dry-run", name, "true")
    assert image.path in planned.stdout and planned.stderr == ""


def test_a_site_store_that_is_gone_is_one_line_and_no_error(stacked: Stacked, layout: Layout) -> None:
    name = stacked.site.registry.push(layout.path, "base", "gone:1")
    pulled = command(stacked, "pull", "-q", name)
    assert pulled.returncode == 0 and pulled.stderr.count("\n") == 1
    assert "there is no such directory" in pulled.stderr
    assert command(stacked, "run", "--dry-run", name, "true").stderr == ""
    assert sound.faults(stacked.user.root) == []


def test_a_file_is_exported_from_the_sites_image(stacked: Stacked, layout: Layout) -> None:
    name = stacked.site.registry.push(layout.path, "latest", "exported:1")
    stacked.ensure(stacked.site, name)
    target = stacked.base / "x.sqsh"
    assert command(stacked, "pull", "-q", "-o", str(target), name).returncode == 0
    assert run("unsquashfs", "-cat", str(target), "top") == "top" and stacked.objects() == []
    assert Store(stacked.site.store.root).images()


def test_the_doctor_looks_at_additional_stores(stacked: Stacked, layout: Layout) -> None:
    name = stacked.site.registry.push(layout.path, "base", "doctor:1")
    root = stacked.site.store.root
    assert (
        f"note    additional store: {root} is not used: there is no such" in command(stacked, "doctor").stdout
    )
    stacked.ensure(stacked.site, name)
    assert f"ok      additional store: {root}\n" in command(stacked, "doctor").stdout

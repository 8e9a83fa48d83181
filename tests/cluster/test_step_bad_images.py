"""Images that a registry serves and that cannot be used: named in one line, and the store stays sound."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images, oci
from cluster.cluster import Cluster
from cluster.registry import Registry


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def _errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "pinnace: error" in line]


def _layer_in_registry(cluster: Cluster, layout: Path) -> Path:
    """The file in which the registry keeps the only layer of an image that was pushed."""
    blobs = layout / "blobs" / "sha256"
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    digest = manifest["layers"][0]["digest"][7:]
    return cluster.directory / f"registry/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"


def _push_own(cluster: Cluster, registry: Registry, name: str, **options: str) -> tuple[str, Path]:
    """Push an image whose layer no other image has; gives its reference and its layout."""
    layout = cluster.directory / name
    tiny = oci.tar({"etc": None, f"etc/{name}": name.encode() * 1000})
    oci.write_layout(layout, [tiny], {"Cmd": ["true"]}, **options)
    return registry.push(layout, f"{name}:1"), layout


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("corrupted", lambda content: content[:-20] + bytes(20), "digest"),
        ("truncated", lambda content: content[:-20], "sha256:"),
    ],
)
def test_a_damaged_layer_is_named(
    cluster: Cluster, registry: Registry, name: str, damage: object, expected: str
) -> None:
    reference, layout = _push_own(cluster, registry, name)
    stored = _layer_in_registry(cluster, layout)
    whole = stored.read_bytes()
    stored.write_bytes(damage(whole))  # type: ignore[operator]
    done = cluster.srun(["-n2", f"--container-image={reference}", "true"], timeout=300)
    assert done.returncode == 1
    assert len(_errors(done)) == 1 and expected in _errors(done)[0], done.stderr
    # Mended on the other side, it is simply pulled: nothing wrong was kept here.
    stored.write_bytes(whole)
    assert cluster.run(["pinnace", "pull", reference]).returncode == 0


def test_an_image_for_another_architecture_is_named(cluster: Cluster, registry: Registry) -> None:
    reference, _ = _push_own(cluster, registry, "foreign", architecture="s390x")
    done = cluster.srun([f"--container-image={reference}", "true"], timeout=120)
    assert done.returncode == 1
    (line,) = _errors(done)
    assert "foreign" in line and "s390x" in line


def test_a_full_disk_is_named_and_nothing_is_kept(cluster: Cluster, registry: Registry) -> None:
    reference = registry.push(images.debian(), "big:1")
    store = cluster.home() / "full"
    script = f"mount -t tmpfs -o size=8M,mode=0777 tmpfs {store} && exec setpriv --reuid=20001 --regid=20001 "
    script += f"--clear-groups pinnace pull {reference}"
    cluster.run(["mkdir", "-p", store])
    environment = {"PINNACE_STORE": str(store), "HOME": str(cluster.home())}
    done = cluster.run(["unshare", "-m", "sh", "-c", script], user=None, env=environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "space" in line

"""Cleaning up beside running containers and jobs, on a real cluster."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import images, oci
from cluster.cluster import Cluster, wait_until
from cluster.registry import Registry
from cluster.test_store_leases import is_held

#: All that nothing uses.
EVERYTHING = ["--max-age", "0"]


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


@pytest.fixture
def store(cluster: Cluster) -> Iterator[Path]:
    """The user's store, empty."""
    root = cluster.home() / ".cache" / "pinnace"
    shutil.rmtree(root, ignore_errors=True)
    yield root
    shutil.rmtree(root, ignore_errors=True)


def collect(cluster: Cluster, *options: str, **more: Any) -> dict[str, Any]:
    done = cluster.run(["pinnace", "store", "gc", "--json", *options], **more)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def stored(store: Path) -> list[Path]:
    return sorted(store.glob("images/sha256/*"))


@pytest.mark.parametrize("front", [["pinnace", "run"], ["srun", "-wn1", "--container-image"]])
def test_a_running_container_keeps_its_image_and_its_end_lets_it_go(
    cluster: Cluster, tiny_image: str, store: Path, front: list[str]
) -> None:
    script = "echo ready; read go; cat /etc/os-release"
    with cluster.popen([*front, tiny_image, "sh", "-c", script], stdin=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        for lease in store.glob("leases/*"):
            lease.unlink()
        report = collect(cluster, *EVERYTHING, "--quota", "1", host=cluster.nodes[1])
        assert list(report["kept"].values()) == ["in use"] and report["over_quota"]
        out, _ = running.communicate("go\n")
        assert out == 'PRETTY_NAME="Tiny"\n' and running.returncode == 0
    wait_until(lambda: not is_held(stored(store)[1]), what="the end of the lease")
    collect(cluster, *EVERYTHING)
    assert stored(store) == []


@pytest.mark.parametrize("kind", [[], ["--array=0-1"], [":"]], ids=["plain", "array", "heterogeneous"])
def test_a_job_keeps_its_image_between_its_steps_and_its_end_lets_it_go(
    cluster: Cluster, tiny_image: str, store: Path, kind: list[str]
) -> None:
    gate = cluster.home() / "gate"
    step = f"srun --container-image={tiny_image} cat /etc/os-release"
    if kind == [":"]:
        step = f"srun --het-group=1 --container-image={tiny_image} cat /etc/os-release"
    script = f"{step} || exit 1; touch {gate}.ready; while [ ! -e {gate} ]; do sleep 0.1; done; {step}"
    job = cluster.sbatch(
        script, ["-N1", *(["-wn1", ":", "-N1", "-wn2"] if kind == [":"] else ["-n1", *kind])]
    )
    wait_until(Path(f"{gate}.ready").exists, what="the first step")
    wait_until(lambda: list(store.glob("leases/*")) and not is_held(stored(store)[1]), what="its end")
    assert [why.split()[0] for why in collect(cluster, *EVERYTHING)["kept"].values()] == ["job"]
    gate.touch()
    cluster.wait_for_idle()
    for part in cluster.run(["scontrol", "-o", "show", "job", job], check=True).stdout.splitlines():
        assert "JobState=COMPLETED" in part
    wait_until(lambda: not is_held(stored(store)[1]), what="the end of the lease")
    collect(cluster, *EVERYTHING)
    assert stored(store) == [] and list(store.glob("leases/*")) == []
    for path in (gate, Path(f"{gate}.ready"), *cluster.home().glob("slurm-*.out")):
        path.unlink()


def test_a_job_that_slurm_cannot_be_asked_for_keeps_its_image(
    cluster: Cluster, tiny_image: str, store: Path
) -> None:
    cluster.srun([f"--container-image={tiny_image}", "true"], check=True)
    wait_until(lambda: not is_held(stored(store)[1]), what="the end of the lease")
    unknown = {"SLURM_CONF": "/nowhere"}
    assert len(collect(cluster, *EVERYTHING, env=unknown)["kept"]) == 1
    for lease in store.glob("leases/*"):
        os.utime(lease, (1000, 1000))
    assert collect(cluster, *EVERYTHING, env=unknown)["kept"] == {}


@pytest.mark.parametrize(
    "count", [pytest.param(8, marks=pytest.mark.sample), pytest.param(200, marks=pytest.mark.torture)]
)
def test_jobs_start_and_end_while_everything_is_cleaned_up_all_the_time(
    cluster: Cluster, registry: Registry, store: Path, count: int
) -> None:
    """Whatever can be removed is, at once, on two nodes; every start may have to pull again."""
    names = [registry.push(_image(cluster, number), f"gc:{number}") for number in range(4)]
    quota = 3 << 20
    stop = threading.Event()
    failures: list[str] = []

    def clean(node: int) -> None:
        command = ["pinnace", "store", "gc", "-q", *EVERYTHING, "--quota", str(quota)]
        while not stop.is_set():
            done = cluster.run(command, host=cluster.nodes[node])
            if done.returncode != 0:
                failures.append(done.stderr)

    def start(number: int) -> subprocess.CompletedProcess[str]:
        image = f"--container-image={names[number % 4]}"
        return cluster.srun(["-n1", "--oversubscribe", image, "cat", "/id"], timeout=300)

    cleaners = [threading.Thread(target=clean, args=(node,)) for node in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        with ThreadPoolExecutor(8) as users:
            done = list(users.map(start, range(count)))
    finally:
        stop.set()
        for cleaner in cleaners:
            cleaner.join()
    assert failures == []
    assert [job.stderr for job in done if job.returncode] == []
    assert [job.stdout for job in done] == [f"{number % 4}\n" for number in range(count)]
    cluster.wait_for_idle()
    wait_until(lambda: collect(cluster, *EVERYTHING)["after"] == 0, what="an empty store")
    parts = ("images", "layers", "references", "leases", "tmp", "locks")
    assert [path for part in parts for path in store.glob(f"{part}/**/*") if path.is_file()] == []


def _image(cluster: Cluster, number: int) -> Path:
    """The layout of an image like the tiny one, with a layer of a megabyte of its own."""
    layout = cluster.directory / f"gc-{number}"
    if not layout.exists():
        base = max((images.tiny() / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
        own = oci.tar({"id": f"{number}\n".encode(), "random": os.urandom(1 << 20)})
        oci.write_layout(layout, [gzip.decompress(base.read_bytes()), own], {"Env": ["PATH=/bin"]})
    return layout

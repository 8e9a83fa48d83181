"""Namespaces that a step's container has for itself: --container-unshare."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.squash import squash

Srun = Callable[..., "subprocess.CompletedProcess[str]"]

_LINKS = "/proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts"


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    return squash(images.tiny(), cluster.directory / "unshare.sqsh")


@pytest.fixture
def srun(cluster: Cluster, image: Path) -> Srun:
    """``srun`` on one node with the tiny image, successful."""

    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        done = cluster.srun(["-wn1", f"--container-image={image}", *words], timeout=120, **options)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def of_the_node(cluster: Cluster) -> set[str]:
    """What a step without a container is in."""
    return set(cluster.srun(["-wn1", "readlink", *_LINKS.split()]).stdout.split())


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def _namespaces(srun: Srun, *options: str, **more: object) -> list[set[str]]:
    """Those of each task."""
    show = f"echo $(for link in {_LINKS}; do readlink $link; done)"
    return [set(line.split()) for line in srun(*options, "sh", "-c", show, **more).stdout.splitlines()]


def test_the_nodes_are_shared_unless_others_are_asked_for(srun: Srun, of_the_node: set[str]) -> None:
    assert _namespaces(srun) == [of_the_node]


def test_those_that_are_named_are_new_and_all_tasks_of_the_node_are_in_them(
    srun: Srun, of_the_node: set[str]
) -> None:
    tasks = _namespaces(srun, "-n3", "--container-unshare=net,ipc,uts")
    assert len(tasks) == 3 and tasks[0] == tasks[1] == tasks[2]
    assert tasks[0].isdisjoint(of_the_node)
    (only_uts,) = _namespaces(srun, "--container-unshare=uts")
    assert {name.partition(":")[0] for name in only_uts - of_the_node} == {"uts"}


def test_repeated_options_add_up_and_a_variable_stands_in_for_them(srun: Srun, of_the_node: set[str]) -> None:
    (both,) = _namespaces(srun, "--container-unshare=net", "--container-unshare=uts")
    assert {name.partition(":")[0] for name in both - of_the_node} == {"net", "uts"}
    (by_variable,) = _namespaces(srun, env={"PYXIS_CONTAINER_UNSHARE": "ipc"})
    assert {name.partition(":")[0] for name in by_variable - of_the_node} == {"ipc"}


def test_a_start_from_a_kept_plan_is_no_different(srun: Srun, of_the_node: set[str]) -> None:
    for _ in range(3):
        (task,) = _namespaces(srun, "--container-unshare=net,ipc,uts")
        assert task.isdisjoint(of_the_node)
    timed = srun("--container-unshare=net,ipc,uts", "true", env={"PINNACE_TIMINGS": "1"})
    assert "kept plan" in srun("--container-unshare=net,ipc,uts", "true", env={"PINNACE_TIMINGS": "1"}).stderr
    assert "timings" in timed.stderr


def test_a_network_has_a_loopback_device_that_is_up_and_no_other(srun: Srun) -> None:
    script = "cat /proc/net/dev | tail -n +3 | grep -c :; busybox ifconfig lo"
    done = srun("--container-unshare=net", "sh", "-c", script)
    assert done.stdout.startswith("1\n") and "UP LOOPBACK RUNNING" in done.stdout
    listed = srun("--container-unshare=net", "sh", "-c", "ls /sys/class/net /sys/fs/cgroup | head -n 4")
    assert listed.stdout.splitlines()[:2] == ["/sys/class/net:", "lo"]
    assert len(listed.stdout.splitlines()) == 4
    refused = srun("--container-unshare=net", "sh", "-c", "busybox wget -q http://127.0.0.1:9 2>&1 || true")
    assert "Connection refused" in refused.stdout
    nowhere = srun("--container-unshare=net", "sh", "-c", "busybox wget -q http://10.86.0.1:9 2>&1 || true")
    assert "Network is unreachable" in nowhere.stdout


def test_a_host_name_can_be_changed_by_root_for_the_container_alone(cluster: Cluster, srun: Srun) -> None:
    change = ("sh", "-c", "hostname; hostname other 2>/dev/null; hostname")
    assert srun("--container-remap-root", "--container-unshare=uts", *change).stdout == "n1\nother\n"
    assert srun("--container-remap-root", *change).stdout == "n1\nn1\n"
    assert srun("--container-unshare=uts", *change).stdout == "n1\nn1\n"
    assert cluster.srun(["-wn1", "hostname"]).stdout == "n1\n"


def test_shared_memory_is_the_containers_own_with_ipc(cluster: Cluster, srun: Srun) -> None:
    cluster.srun(["-wn1", "touch", "/dev/shm/pinnace-host"])
    try:
        look = ("sh", "-c", "test -e /dev/shm/pinnace-host && echo the node || echo its own")
        assert srun(*look).stdout == "the node\n"
        assert srun("--container-unshare=ipc", *look).stdout == "its own\n"
    finally:
        cluster.srun(["-wn1", "rm", "/dev/shm/pinnace-host"])
    other = "/dev/shm/$((1 - SLURM_PROCID))"
    meet = f"touch /dev/shm/$SLURM_PROCID; until test -e {other}; do sleep 0.1; done; echo met"
    assert srun("-n2", "--container-unshare=ipc", "sh", "-c", meet).stdout == "met\nmet\n"


def test_an_entry_point_is_in_them_too(cluster: Cluster, srun: Srun, image: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tree), str(image)], check=True, capture_output=True)
    (tree / "etc" / "rc").write_text('export SEEN=$(readlink /proc/self/ns/net)\nexec "$@"\n')
    (tree / "etc" / "environment").write_text("PATH=/bin\n")
    subprocess.run(
        ["mksquashfs", str(tree), str(cluster.directory / "rc.sqsh"), "-all-root", "-noappend", "-quiet"],
        check=True,
        capture_output=True,
    )
    options = [
        f"--container-image={cluster.directory}/rc.sqsh",
        "--container-entrypoint",
        "--container-unshare=net",
    ]
    done = cluster.srun([*options, "sh", "-c", "echo $SEEN; readlink /proc/self/ns/net"], timeout=120)
    seen, own = done.stdout.split()
    assert seen == own, done.stderr

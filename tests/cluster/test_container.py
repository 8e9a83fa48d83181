"""A job in a container: the way that most jobs go."""

from __future__ import annotations

from cluster.cluster import Cluster
from cluster.registry import Registry

_PRETTY_NAME = ["grep", "PRETTY_NAME", "/etc/os-release"]


def test_eight_tasks_on_two_nodes_run_in_the_image(
    cluster: Cluster, registry: Registry, debian_image: str
) -> None:
    def run() -> None:
        done = cluster.srun(["-N2", "-n8", f"--container-image={debian_image}", *_PRETTY_NAME], timeout=300)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 8
        assert set(done.stdout.splitlines()) == {_pretty_name()}

    run()
    pulled = len(registry.requests())
    run()
    again = registry.requests()[pulled:]
    assert [request for request in again if "/blobs/" in request] == []
    assert cluster.leftovers() == []


def test_all_tasks_of_a_node_share_one_container(cluster: Cluster, tiny_image: str) -> None:
    script = "echo $SLURM_NODEID $(readlink /proc/self/ns/mnt)"
    done = cluster.srun(["-N2", "-n8", f"--container-image={tiny_image}", "sh", "-c", script])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
    assert len(set(done.stdout.splitlines())) == 2


def _pretty_name() -> str:
    with open("/etc/os-release") as release:
        return next(line.strip() for line in release if line.startswith("PRETTY_NAME"))

"""A job in a container: the way that most jobs go."""

from __future__ import annotations

from cluster import images
from cluster.cluster import Cluster
from cluster.registry import Registry
from cluster.squash import squash

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


def test_a_job_with_a_private_tmp_runs_in_the_image() -> None:
    with Cluster(nodes=1, private_tmp=True) as other:
        image = squash(images.tiny(), other.directory / "tiny.sqsh")
        inside = "cat /etc/os-release; test -e /tmp/mine || echo its own"
        script = (
            f"echo host > /tmp/mine; srun --overlap --container-image={image} sh -c '{inside}'; cat /tmp/mine"
        )
        done = other.run(["salloc", "-Q", "-n1", "srun", "--overlap", "sh", "-c", script], timeout=120)
        assert done.stdout.splitlines()[0] == 'PRETTY_NAME="Tiny"', done.stderr
        assert done.stdout.splitlines()[-2:] == ["its own", "host"]
        done = other.srun(
            [f"--container-image={image}", "--container-mounts=/tmp:/tmp", "touch", "/tmp/x"], timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert other.leftovers() == []


def _pretty_name() -> str:
    with open("/etc/os-release") as release:
        return next(line.strip() for line in release if line.startswith("PRETTY_NAME"))

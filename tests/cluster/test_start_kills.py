"""Parts of a container killed at a random moment of its start or its life: told clearly, nothing left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from cluster import images
from cluster.cluster import Cluster, wait_until
from cluster.squash import squash
from torture.rounds import seeded

#: Programs that make and keep a container: servers, launcher, executor and keeper, which is one too.
_PARTS = frozenset(("squashfuse", "squashfuse_ll", "fuse-overlayfs", "pinnace", "pinnace-exec"))
_SCRIPT = "for i in 1 2 3 4 5; do cat /etc/os-release || exit 3; sleep 0.1; done"
#: Seconds within which a start and a short life lie.
_MOMENTS = 0.8


@pytest.fixture
def nothing_left(cluster: Cluster, tiny_image: str) -> Iterator[None]:
    yield
    done = cluster.srun(["-w", "n1", f"--container-image={tiny_image}", "cat", "/etc/os-release"])
    assert (done.returncode, done.stdout) == (0, 'PRETTY_NAME="Tiny"\n'), done.stderr
    # It removes what a pull has begun that was killed.
    cluster.run(["pinnace", "store", "gc", "-q", "--max-age", "1w"], check=True)
    assert cluster.leftovers() == []


def _is_part(line: str) -> bool:
    """Whether a command line is that of a part; an interpreter and its options may come first."""
    return any(os.path.basename(word) in _PARTS for word in line.split()[:3])


def _kill_one(cluster: Cluster, chance: random.Random) -> str:
    """Kill one process of the container on n1, if there is any; its command line."""
    processes = cluster.node_processes(cluster.nodes[0])
    parts = sorted((line, pid) for pid, line in processes.items() if _is_part(line))
    if not parts:
        return ""
    line, pid = chance.choice(parts)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return line


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    """A cluster of its own: Slurm leaves the control groups of a step whose slurmstepd was killed."""
    with Cluster(nodes=1) as running:
        yield running


@pytest.mark.parametrize("seed", seeded(100, 4))
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("front", ["srun", "run"])
def test_a_part_that_is_killed_leaves_nothing_and_the_error_is_clear(
    cluster: Cluster, tiny_image: str, front: str, seed: int
) -> None:
    chance = random.Random(f"{front} {seed}")
    environment = {"PINNACE_BACKEND": chance.choice(["squashfuse", "unpack"])}
    environment["PINNACE_OVERLAY"] = chance.choice(["kernel", "fuse-overlayfs"])
    command = ["pinnace", "run", tiny_image, "sh", "-c", _SCRIPT]
    if front == "srun":
        command = ["srun", "-w", "n1", "-n2", f"--container-image={tiny_image}", "sh", "-c", _SCRIPT]
    host = cluster.nodes[0] if front == "run" else None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with cluster.popen(command, env=environment, host=host, **pipes) as container:
        time.sleep(chance.uniform(0, _MOMENTS))
        killed = _kill_one(cluster, chance)
        out, said = container.communicate(timeout=120)
    assert "Traceback" not in said, killed
    if container.returncode == 0:
        assert out == 'PRETTY_NAME="Tiny"\n' * (10 if front == "srun" else 5), killed
    elif killed and container.returncode != -signal.SIGKILL:
        assert "pinnace: " in said or "srun: error" in said, (killed, said)


@pytest.mark.parametrize("seed", seeded(20, 1))
def test_a_slurmstepd_that_is_killed_leaves_a_node_that_can_be_used(other: Cluster, seed: int) -> None:
    chance = random.Random(f"slurmstepd {seed}")
    image = other.directory / "tiny.sqsh"
    if not image.exists():
        squash(images.tiny(), image).chmod(0o644)
    command = ["srun", f"--container-image={image}", "sh", "-c", _SCRIPT]
    node = other.nodes[0]
    environment = {"PINNACE_BACKEND": chance.choice(["squashfuse", "unpack"])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with other.popen(command, env=environment, **pipes) as step:
        time.sleep(chance.uniform(0, _MOMENTS))
        for pid, line in other.node_processes(node).items():
            if line.startswith("slurmstepd: [") and "extern" not in line:
                os.kill(pid, signal.SIGKILL)
        # Slurm does not know of the tasks any more: they end as they would without a container.
        wait_until(lambda: not _tasks(other), what="the end of the tasks")
        other.cancel_all()
        _, said = step.communicate(timeout=120)
    assert "Traceback" not in said
    assert [left for left in other.leftovers(timeout=3) if "control group" not in left] == []
    done = other.srun([f"--container-image={image}", "cat", "/etc/os-release"], timeout=120)
    assert (done.returncode, done.stdout) == (0, 'PRETTY_NAME="Tiny"\n'), done.stderr


def _tasks(cluster: Cluster) -> list[str]:
    """The commands of steps that run on the first node."""
    return [line for line in cluster.node_processes(cluster.nodes[0]).values() if _SCRIPT in line]

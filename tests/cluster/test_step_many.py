"""Many steps, one after the other and at once, by one user and by two; and steps that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster, wait_until
from cluster.users import ADA, BEN, User

_HUNDRED = """
i=0
while [ $i -lt 100 ]; do
    srun --container-image={image} true || exit 1
    i=$((i + 1))
done
echo all of them
"""


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def _start(cluster: Cluster, image: str, words: list[str], user: User = ADA) -> subprocess.Popen[str]:
    command = ["srun", "-w", "n1", "--oversubscribe", f"--container-image={image}", *words]
    return cluster.popen(command, user=user, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _running(cluster: Cluster, words: str) -> list[int]:
    """Numbers of the processes on n1 whose command line is ``words``; Slurm adds the program's directory."""
    processes = cluster.node_processes(cluster.nodes[0])
    return [pid for pid, line in processes.items() if line in (words, f"/bin/{words}")]


def test_a_hundred_steps_one_after_the_other(cluster: Cluster, tiny_image: str) -> None:
    script = _HUNDRED.format(image=tiny_image)
    done = cluster.run(["salloc", "-Q", "-n1", "-w", "n1", "sh", "-c", script], timeout=500)
    assert done.stdout == "all of them\n", done.stderr


def test_twenty_steps_at_once_on_one_node(cluster: Cluster, tiny_image: str) -> None:
    cluster.srun(["-w", "n1", f"--container-image={tiny_image}", "true"], check=True)
    step = f"srun --overlap --container-image={tiny_image} cat /etc/os-release"
    script = f"for i in $(seq 20); do {step} & done; wait"
    done = cluster.run(["salloc", "-Q", "-n1", "-w", "n1", "sh", "-c", script], timeout=300)
    assert done.stdout == 'PRETTY_NAME="Tiny"\n' * 20, done.stderr


def test_two_users_pull_the_same_image_at_once(cluster: Cluster, tiny_image: str) -> None:
    for user in (ADA, BEN):
        cluster.run(["rm", "-rf", cluster.home(user) / ".cache" / "pinnace"], user=user)
    steps = [_start(cluster, tiny_image, ["whoami"], user) for user in (ADA, BEN)]
    outputs = [step.communicate(timeout=120) for step in steps]
    assert [out for out, _ in outputs] == ["ada\n", "ben\n"], outputs


def test_one_users_container_is_closed_to_another(cluster: Cluster, tiny_image: str) -> None:
    step = _start(cluster, tiny_image, ["sleep", "99"])
    wait_until(lambda: _running(cluster, "sleep 99"), what="the task")
    node = cluster.nodes[0]
    (task,) = _running(cluster, "sleep 99")
    inside = Path(f"/proc/{task}/status").read_text().split("NSpid:")[1].splitlines()[0].split()[-1]
    join = ["nsenter", "-t", inside, "-U", "-m", "--preserve-credentials", "true"]
    assert cluster.run(join, user=BEN, host=node).returncode != 0
    assert cluster.run(join, user=ADA, host=node).returncode == 0
    cluster.cancel_all()
    step.communicate(timeout=60)


def test_a_cancelled_step_takes_its_container_along(cluster: Cluster, tiny_image: str) -> None:
    step = _start(cluster, tiny_image, ["-n3", "sleep", "98"])
    wait_until(lambda: len(_running(cluster, "sleep 98")) == 3, what="the tasks")
    cluster.cancel_all()
    step.communicate(timeout=60)
    assert step.returncode != 0


def test_a_killed_task_takes_its_container_along(cluster: Cluster, tiny_image: str) -> None:
    step = _start(cluster, tiny_image, ["sleep", "97"])
    wait_until(lambda: _running(cluster, "sleep 97"), what="the task")
    os.kill(_running(cluster, "sleep 97")[0], signal.SIGKILL)
    step.communicate(timeout=60)
    assert step.returncode == 137


def test_a_step_outlives_the_first_of_its_tasks(cluster: Cluster, tiny_image: str) -> None:
    script = "[ $SLURM_LOCALID = 0 ] || { sleep 3; cat /etc/os-release; }"
    step = _start(cluster, tiny_image, ["-n2", "sh", "-c", script])
    assert step.communicate(timeout=60)[0] == 'PRETTY_NAME="Tiny"\n'


def test_a_killed_file_system_server_ends_the_step_and_not_the_node(
    cluster: Cluster, tiny_image: str
) -> None:
    step = _start(cluster, tiny_image, ["sh", "-c", "echo $$; while cat /etc/os-release; do sleep 0.2; done"])

    def servers() -> list[int]:
        processes = cluster.node_processes(cluster.nodes[0])
        return [pid for pid, line in processes.items() if "squashfuse" in line]

    wait_until(servers, what="the server")
    for pid in servers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: step.poll() is not None, what="the end of the step")
    step.communicate()
    done = cluster.srun(["-w", "n1", f"--container-image={tiny_image}", "true"])
    assert done.returncode == 0, done.stderr


def test_slurmstepd_killed_under_running_tasks_leaves_no_container(cluster: Cluster, tiny_image: str) -> None:
    # A cluster of its own: Slurm leaves the control groups of a step whose slurmstepd was killed.
    with Cluster(nodes=1) as other:
        image = Path(other.directory, "tiny.sqsh")
        image.write_bytes(_stored_image(cluster).read_bytes())
        image.chmod(0o644)
        step = _start(other, str(image), ["sleep", "96"])
        wait_until(lambda: _running(other, "sleep 96"), what="the task")
        (task,) = _running(other, "sleep 96")
        status = Path(f"/proc/{task}/status").read_text()
        os.kill(int(status.split("PPid:")[1].split()[0]), signal.SIGKILL)
        # Slurm does not know of the task any more: it ends as it would without a container.
        for pid in _running(other, "sleep 96"):
            os.kill(pid, signal.SIGKILL)
        other.cancel_all()
        step.communicate(timeout=120)
        assert [left for left in other.leftovers(timeout=10) if "control group" not in left] == []


def _stored_image(cluster: Cluster) -> Path:
    return min((cluster.home() / ".cache/pinnace/images/sha256").glob("*.sqsh"), key=os.path.getsize)

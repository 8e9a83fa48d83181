"""The keeper: what is told when a container's file server dies, and what must not go with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster, wait_until
from cluster.host import Host, send_signal
from cluster.squash import squash

READ = "cat /etc/os-release"
TOLD = "which serves the container's files, was killed by signal 9 (Killed)"


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    return squash(images.tiny(), cluster.directory / "keeper.sqsh")


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def processes(cluster: Cluster, host: Host, words: str) -> list[int]:
    return [pid for pid, line in cluster.node_processes(host).items() if words in line]


def kill(cluster: Cluster, host: Host, words: str) -> None:
    wait_until(lambda: processes(cluster, host, words), what=words)
    for pid in processes(cluster, host, words):
        os.kill(pid, signal.SIGKILL)


def start_run(cluster: Cluster, image: Path, script: str, **more: str) -> subprocess.Popen[str]:
    """``pinnace run`` of a script that says ``ready`` and goes on when a line comes."""
    running = cluster.popen(
        ["pinnace", "run", "--rw", str(image), "--", "sh", "-c", f"echo ready; read line; {script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=more,
    )
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    return running


def start_step(
    cluster: Cluster, image: Path, tasks: int, script: str, *options: str
) -> subprocess.Popen[str]:
    asked = ["-w", "n1", f"-n{tasks}", f"--container-image={image}", *options]
    step = cluster.popen(
        ["srun", *asked, "sh", "-c", f"echo ready; {script}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert step.stdout is not None
    waiting = tasks
    while waiting:  # others may have gone on
        line = step.stdout.readline()
        assert line, "the step has ended"
        waiting -= line == "ready\n"
    return step


@pytest.mark.parametrize(
    ("server", "overlay"),
    [("squashfuse_ll", "kernel"), ("squashfuse_ll", "fuse-overlayfs"), ("fuse-overlayfs", "fuse-overlayfs")],
)
def test_a_server_that_is_killed_is_named_once(
    cluster: Cluster, image: Path, server: str, overlay: str
) -> None:
    with start_run(cluster, image, READ, PINNACE_OVERLAY=overlay) as running:
        kill(cluster, cluster.login, f"/{server} -f")
        assert running.stderr is not None
        told = running.stderr.readline()
        assert told.startswith(f"pinnace: error: {server}, {TOLD}") and "--mem" in told
        _, errors = running.communicate("go on\n", timeout=30)
        assert "pinnace" not in errors
    assert running.returncode != 0


def test_a_step_whose_server_is_killed_tells_its_user_once(cluster: Cluster, image: Path) -> None:
    step = start_step(cluster, image, 3, f"while {READ}; do sleep 0.2; done; exit 1")
    kill(cluster, cluster.nodes[0], "/squashfuse_ll -f")
    _, errors = step.communicate(timeout=60)
    assert step.returncode != 0
    assert [TOLD in line for line in errors.splitlines() if "pinnace" in line] == [True], errors


@pytest.mark.parametrize("signal_name", ["TERM", "USR1", "HUP"])
def test_a_signal_to_all_of_a_step_leaves_its_programs_their_files(
    cluster: Cluster, image: Path, signal_name: str
) -> None:
    script = f"trap '{READ}; exit 7' {signal_name}; while true; do sleep 0.1; done"
    step = start_step(cluster, image, 1, script)
    cluster.run(["scancel", f"--signal={signal_name}", "--user=ada"], check=True)
    output, errors = step.communicate(timeout=60)
    assert output == 'PRETTY_NAME="Tiny"\n' and "pinnace" not in errors


def test_a_step_that_is_cancelled_blames_no_server(cluster: Cluster, image: Path) -> None:
    step = start_step(cluster, image, 2, "sleep 99")
    cluster.cancel_all()
    _, errors = step.communicate(timeout=60)
    assert "pinnace" not in errors


def test_a_container_goes_on_without_its_keeper(cluster: Cluster, image: Path) -> None:
    with start_run(cluster, image, READ) as running:
        kill(cluster, cluster.login, "pinnace-exec --plan=")
        output, errors = running.communicate("go on\n", timeout=30)
    assert (output, errors, running.returncode) == ('PRETTY_NAME="Tiny"\n', "", 0)


def test_what_goes_on_in_a_container_keeps_no_pipe_of_its_command_open(cluster: Cluster, image: Path) -> None:
    script = "sleep 95 </dev/null >/dev/null 2>&1 & echo done"
    with start_run(cluster, image, script) as running:
        output, errors = running.communicate("go on\n", timeout=30)  # returns at the end of both pipes
        assert (output, errors) == ("done\n", "")
        assert processes(cluster, cluster.login, "/squashfuse_ll -f")
        kill(cluster, cluster.login, "sleep 95")


def test_keeper_and_servers_outlive_a_signal_that_is_for_the_command(cluster: Cluster, image: Path) -> None:
    script = f"trap '{READ}; exit 7' INT; echo set; while true; do sleep 0.1; done"
    with start_run(cluster, image, script) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write("go on\n")
        running.stdin.flush()
        assert running.stdout.readline() == "set\n"
        for words in ("/squashfuse_ll -f", "pinnace-exec --plan="):
            for pid in processes(cluster, cluster.login, words):
                os.kill(pid, signal.SIGINT)
        send_signal(running, signal.SIGINT)
        assert running.stdout.read() == 'PRETTY_NAME="Tiny"\n'
        assert running.wait(30) == 7


def test_an_unpacked_image_is_held_as_long_as_its_container(cluster: Cluster, image: Path) -> None:
    def is_held() -> bool:
        (record,) = (cluster.home() / ".cache/pinnace/unpacked").glob("*/record.json")
        return cluster.run(["flock", "-n", "-x", str(record), "true"]).returncode != 0

    shutil.rmtree(cluster.home() / ".cache/pinnace/unpacked", ignore_errors=True)
    with start_run(cluster, image, "true", PINNACE_BACKEND="unpack") as running:
        assert processes(cluster, cluster.login, "/squashfuse_ll -f") == [] and is_held()
        running.communicate("go on\n", timeout=30)
    wait_until(lambda: not is_held(), what="the end of the lease")
    step = start_step(cluster, image, 2, "sleep 1", "--container-backend=unpack")
    assert is_held()
    step.communicate(timeout=60)
    wait_until(lambda: not is_held(), what="the end of the step's lease")

"""Steps that cannot get their container: one line for a node, an exit status, and nothing left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster, wait_until
from cluster.registry import Registry
from cluster.squash import squash
from cluster.users import ADA


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    return squash(images.tiny(), cluster.directory / "failures.sqsh")


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What Pinnace says; srun itself adds how tasks have ended."""
    return [line for line in done.stderr.splitlines() if "pinnace: " in line]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--container-image="], "--container-image: argument required"),
        (["--container-image=a", "--container-image=b"], "--container-image specified multiple times"),
        (
            ["--container-image=a", "--container-writable", "--container-readonly"],
            "both --container-writable and --container-readonly were specified",
        ),
        (["--container-image=a", "--container-mounts=/a::ro"], "invalid format: /a::ro"),
        (["--container-image=a", "--container-mounts=a:/b"], "the source must begin with"),
        (
            ["--container-image=a", "--container-unshare=net,pid"],
            "unknown namespace 'pid'; there are net, ipc",
        ),
        (["--container-image=a", "--container-env=A,,B"], "--container-env: invalid format: A,,B"),
    ],
)
@pytest.mark.parametrize("command", [["srun", "true"], ["salloc", "true"], ["sbatch", "--wrap=true"]])
def test_malformed_options_are_refused_on_submission(
    cluster: Cluster, command: list[str], options: list[str], expected: str
) -> None:
    done = cluster.run([command[0], *options, command[1]])
    assert done.returncode != 0
    assert len(errors(done)) == 1 and expected in errors(done)[0]


def test_options_without_an_image_are_ignored_aloud(cluster: Cluster) -> None:
    done = cluster.srun(["--container-workdir=/x", "true"])
    assert done.returncode == 0
    assert "ignoring --container-workdir because neither" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["no-such-command"], 127, "no-such-command: command not found in"),
        (["/no/such"], 127, "/no/such: command not found in"),
        (["/etc/os-release"], 126, "/etc/os-release is not an executable file in"),
        (["--container-workdir=/nowhere", "true"], 1, "couldn't chdir to /nowhere"),
        (["--container-mounts=/nowhere:/x", "true"], 1, "mount source path does not exist: /nowhere"),
        (["--container-mounts=/usr:/x:shiny", "true"], 1, "unknown flag shiny"),
    ],
)
def test_a_failure_is_told_once_for_all_tasks_of_a_node(
    cluster: Cluster, image: Path, words: list[str], status: int, expected: str
) -> None:
    done = cluster.srun(["-n4", f"--container-image={image}", *words])
    assert done.returncode == status
    assert len(errors(done)) == 1 and expected in errors(done)[0], done.stderr
    assert "slurmstepd" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("image_name", "expected"),
    [
        ("/no/such.sqsh", "/no/such.sqsh"),
        ("/etc/passwd", "/etc/passwd"),
        ("127.0.0.1:5000#no/such", "no/such"),
        ("127.0.0.1:5000#tiny:none", "tiny"),
        ("127.0.0.1:1#tiny", "127.0.0.1:1"),
        ("not a reference", "not a reference"),
    ],
)
def test_an_image_that_cannot_be_had_is_named(
    cluster: Cluster, registry: Registry, tiny_image: str, image_name: str, expected: str
) -> None:
    done = cluster.srun(["-n2", f"--container-image={image_name}", "true"], timeout=120)
    assert done.returncode == 1
    assert len([line for line in errors(done) if "error" in line and expected in line]) == 1, done.stderr


def _pull(cluster: Cluster, tasks: int, registry: str) -> subprocess.Popen[str]:
    """A step whose launcher waits for an answer of ``registry``, which never comes."""
    return cluster.popen(
        ["srun", "-w", "n1", f"-n{tasks}", f"--container-image={registry}#tiny", "true"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _launchers(cluster: Cluster) -> list[int]:
    processes = cluster.node_processes(cluster.nodes[0])
    return [pid for pid, words in processes.items() if words.rstrip().endswith("/pinnace step")]


@pytest.fixture
def silent_registry(cluster: Cluster) -> Iterator[str]:
    with _silence(cluster) as address:
        yield address


@contextmanager
def _silence(cluster: Cluster) -> Iterator[str]:
    """A server that takes connections on n1 and says nothing."""
    # The kernel completes connections that nobody accepts; the server ends with its standard input.
    script = (
        "import socket, sys; server = socket.create_server(('127.0.0.1', 5999)); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = ["/usr/bin/python3", "-c", script]
    pipe = subprocess.PIPE
    with cluster.popen(command, user=ADA, host=cluster.nodes[0], stdin=pipe, stdout=pipe) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield "127.0.0.1:5999"


def test_a_killed_launcher_is_told_once(cluster: Cluster, silent_registry: str) -> None:
    step = _pull(cluster, 3, silent_registry)
    wait_until(lambda: _launchers(cluster), what="the launcher")
    subprocess.run(["kill", "-9", *map(str, _launchers(cluster))], check=True)
    _, messages = step.communicate(timeout=60)
    assert step.returncode == 137
    assert messages.count("was killed by signal 9") == 1


def test_the_next_task_goes_on_when_a_leader_is_killed(cluster: Cluster, silent_registry: str) -> None:
    step = _pull(cluster, 2, silent_registry)
    wait_until(lambda: _launchers(cluster), what="the launcher")
    (first,) = _launchers(cluster)
    subprocess.run(["kill", "-9", _parent(first)], check=True)
    wait_until(lambda: _launchers(cluster) and first not in _launchers(cluster), what="the second launcher")
    (second,) = _launchers(cluster)
    subprocess.run(["kill", "-9", str(second)], check=True)
    step.communicate(timeout=60)
    assert step.returncode == 137


def test_a_cancelled_step_ends_with_its_launcher(cluster: Cluster, silent_registry: str) -> None:
    step = _pull(cluster, 2, silent_registry)
    wait_until(lambda: _launchers(cluster), what="the launcher")
    cluster.cancel_all()
    step.communicate(timeout=60)
    assert step.returncode != 0
    wait_until(lambda: not _launchers(cluster), what="the launcher to end")


def test_setting_up_ends_with_slurmstepd() -> None:
    # A cluster of its own: Slurm leaves the control groups of a step whose slurmstepd was killed.
    with Cluster(nodes=1) as cluster:
        with _silence(cluster) as registry:
            step = _pull(cluster, 2, registry)
            wait_until(lambda: _launchers(cluster), what="the launcher")
            (launcher,) = _launchers(cluster)
            subprocess.run(["kill", "-9", _parent(int(_parent(launcher)))], check=True)
            wait_until(lambda: not _launchers(cluster), what="the launcher to end")
            cluster.cancel_all()
            step.communicate(timeout=120)
        assert [left for left in cluster.leftovers(timeout=5) if "control group" not in left] == []


def _parent(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return status.split("PPid:")[1].split()[0]

"""The embedded cluster itself, with no container in sight."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import cgroups
from cluster.cluster import Cluster, sweep, wait_until
from cluster.host import send_signal
from cluster.users import ADA, BEN

_TESTS = Path(__file__).parents[1]


def test_runs_a_job_on_two_nodes_as_an_ordinary_user(cluster: Cluster) -> None:
    done = cluster.srun(["-N2", "-n4", "sh", "-c", "echo $(hostname) $(id -un)"])
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"n1 ada", "n2 ada"}
    assert len(done.stdout.splitlines()) == 4


def test_users_have_their_groups_and_homes(cluster: Cluster) -> None:
    assert cluster.srun(["sh", "-c", "id -Gn; pwd"]).stdout.split() == ["ada", "crew", str(cluster.home(ADA))]
    assert cluster.srun(["id", "-Gn"], user=BEN).stdout.split() == ["ben"]
    assert cluster.run(["ls", cluster.home(ADA)], user=BEN).returncode != 0


def test_a_batch_job_can_be_cancelled(cluster: Cluster) -> None:
    job = cluster.sbatch("srun sleep 600", ["-N2"])
    wait_until(
        lambda: any("sleep 600" in words for words in cluster.node_processes(cluster.nodes[1]).values()),
        what="the job to run",
    )
    assert any("sleep 600" in thing for thing in cluster.leftovers(timeout=0))
    cluster.scancel(job)
    assert cluster.wait_for_job(job) == "CANCELLED"
    assert cluster.leftovers() == []


def test_an_interrupt_reaches_what_was_started(cluster: Cluster) -> None:
    script = "trap 'echo interrupted; exit 7' TERM; echo ready; while true; do sleep 0.1; done"
    with cluster.popen(["sh", "-c", script]) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        send_signal(process, signal.SIGTERM)
        assert process.stdout.read() == "interrupted\n"
    assert process.returncode == 7


def test_a_process_that_left_its_session_ends_with_the_step(cluster: Cluster) -> None:
    if not cgroups.usable():
        pytest.skip("proctrack/linuxproc cannot do it")
    cluster.srun(["sh", "-c", "setsid sleep 601 & sleep 0.2"])
    assert cluster.leftovers() == []


def test_two_clusters_live_side_by_side(cluster: Cluster) -> None:
    with Cluster(nodes=1, plugin=False) as other:
        assert other.srun(["hostname"]).stdout == "n1\n"
        assert cluster.srun(["-N2", "hostname"]).returncode == 0
    assert cluster.srun(["-N2", "hostname"]).returncode == 0


def test_private_tmp(cluster: Cluster) -> None:
    with Cluster(nodes=1, plugin=False, private_tmp=True) as other:
        done = other.srun(["sh", "-c", "touch /tmp/mine && ls /tmp"])
        assert done.stdout == "mine\n", done.stderr
        assert other.leftovers() == []


def test_nothing_is_left_of_a_stopped_cluster() -> None:
    before = _interfaces()
    with Cluster(nodes=1, plugin=False) as other:
        directory = other.directory
        assert other.srun(["true"]).returncode == 0
        assert _traces(directory)
    assert _traces(directory) == []
    assert _interfaces() == before


def test_the_machine_is_as_before_when_a_test_run_is_killed() -> None:
    before = _interfaces()
    script = (
        "from cluster.cluster import Cluster; import time\n"
        "with Cluster(nodes=1, plugin=False) as cluster:\n"
        "    print(cluster.directory, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=_TESTS, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    directory = Path(run.stdout.readline().strip())
    assert _traces(directory)
    run.kill()
    run.wait()
    run.stdout.close()
    wait_until(lambda: not _processes(directory), what="the daemons to end")
    sweep()  # as the next cluster to be started does
    assert _traces(directory) == []
    assert _interfaces() == before


def _traces(directory: Path) -> list[str]:
    """What there is on the machine of the cluster in ``directory``."""
    traces = [f"directory {directory}"] if directory.exists() else []
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    traces += [f"mount {line}" for line in mounts if str(directory) in line]
    traces += [f"control group {path}" for path in Path("/sys/fs/cgroup").glob(f"*/{directory.name}")]
    return traces + _processes(directory)


def _processes(directory: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if str(directory) in words:
            found.append(f"process {process.name} {words!r}")
    return found


def _interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}

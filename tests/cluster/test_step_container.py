"""Steps in a container: what the options do, seen from the tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.squash import squash

Srun = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    return squash(images.tiny(), cluster.directory / "step.sqsh")


@pytest.fixture
def srun(cluster: Cluster, image: Path) -> Srun:
    """``srun`` with the tiny image, successful."""

    def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = cluster.srun([f"--container-image={image}", *words], env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def test_tasks_see_the_image_as_themselves(srun: Srun) -> None:
    done = srun("sh", "-c", "cat /etc/os-release; whoami; pwd")
    assert done.stdout == 'PRETTY_NAME="Tiny"\nada\n/\n'
    assert done.stderr == ""


def test_tasks_of_a_node_share_a_container_and_nodes_do_not(srun: Srun) -> None:
    script = "echo $SLURM_NODEID $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/user)"
    lines = srun("-N2", "-n8", "sh", "-c", script).stdout.splitlines()
    assert len(lines) == 8 and len(set(lines)) == 2


def test_no_descriptor_of_pinnace_reaches_a_task(srun: Srun) -> None:
    plain = srun("sh", "-c", "for fd in /proc/$$/fd/*; do readlink $fd; done; true").stdout.splitlines()
    assert len(plain) <= 4 and all(name.startswith(("pipe:", "/dev/null", "/proc/")) for name in plain)


def test_root_is_read_only_unless_writable_is_asked_for(srun: Srun) -> None:
    script = "echo x > /new && echo written || echo refused"
    assert srun("sh", "-c", script).stdout == "refused\n"
    assert srun("--container-readonly", "sh", "-c", script).stdout == "refused\n"
    assert srun("--container-writable", "sh", "-c", script).stdout == "written\n"


def test_remap_root_makes_the_user_root(srun: Srun) -> None:
    assert srun("--container-remap-root", "whoami").stdout == "root\n"
    assert srun("--no-container-remap-root", "whoami").stdout == "ada\n"


def test_the_home_is_mounted_if_asked_for(cluster: Cluster, srun: Srun) -> None:
    (cluster.home() / "note").write_text("home")
    note = str(cluster.home() / "note")
    script = f"cat {note} 2>/dev/null || echo none"
    assert srun("--container-mount-home", "sh", "-c", script).stdout == "home"
    assert srun("--no-container-mount-home", "sh", "-c", script).stdout == "none\n"


def test_workdir_is_where_tasks_start(srun: Srun) -> None:
    assert srun("--container-workdir=/etc", "pwd").stdout == "/etc\n"


def test_mounts_of_several_options_add_up(cluster: Cluster, srun: Srun) -> None:
    for name in ("one", "two", "three"):
        (cluster.home() / name).write_text(name)
    options = ["--container-mounts=./one:/one,./two:/two:ro", "--container-mounts=./three:/three"]
    assert srun(*options, "cat", "/one", "/two", "/three").stdout == "onetwothree"


def test_variables_of_the_job_stay_but_for_those_of_the_image(cluster: Cluster, tiny_image: str) -> None:
    env = {"MINE": "kept", "LANG": "de_DE.UTF-8"}
    script = "echo $MINE ${LANG-none} $PATH $SLURM_PROCID"
    done = cluster.srun([f"--container-image={tiny_image}", "sh", "-c", script], env=env)
    assert done.stdout == "kept none /bin 0\n", done.stderr


def test_variables_named_by_container_env_win_over_the_image(srun: Srun) -> None:
    env = {"LANG": "de_DE.UTF-8"}
    assert srun("--container-env=LANG", "sh", "-c", "echo ${LANG-none}", env=env).stdout == "de_DE.UTF-8\n"


def test_variables_that_are_kept_are_each_tasks_own(srun: Srun) -> None:
    lines = srun("-n2", "--container-env=SLURM_PROCID", "sh", "-c", "echo $SLURM_PROCID").stdout.splitlines()
    assert sorted(lines) == ["0", "1"]


def test_a_job_without_a_path_finds_commands(srun: Srun) -> None:
    assert srun("--export=NONE", "sh", "-c", "echo well").stdout == "well\n"


def test_pyxis_variables_stand_in_for_options(cluster: Cluster, image: Path) -> None:
    env = {"PYXIS_CONTAINER_IMAGE": str(image), "PYXIS_CONTAINER_WORKDIR": "/etc", "PYXIS_CONTAINER_ENV": "A"}
    done = cluster.srun(["sh", "-c", "pwd; cat os-release"], env=env)
    assert done.stdout == '/etc\nPRETTY_NAME="Tiny"\n', done.stderr
    env["PINNACE_CONTAINER_WORKDIR"] = "/bin"
    assert cluster.srun(["pwd"], env=env).stdout == "/bin\n"


def test_a_batch_script_runs_in_the_image(cluster: Cluster, image: Path) -> None:
    output = cluster.home() / "batch.out"
    job = cluster.sbatch("cat /etc/os-release; pwd", [f"--container-image={image}", f"--output={output}"])
    assert cluster.wait_for_job(job) == "COMPLETED"
    assert output.read_text() == 'PRETTY_NAME="Tiny"\n/\n'


def test_steps_of_an_allocation_inherit_its_options(cluster: Cluster, image: Path) -> None:
    options = [
        "-n1",
        f"--container-image={image}",
        "--container-mounts=/usr:/one",
        "--container-mounts=/usr:/two",
    ]
    done = cluster.run(["salloc", *options, "srun", "ls", "-d", "/one/bin", "/two/bin"])
    assert done.stdout == "/one/bin\n/two/bin\n", done.stderr


def test_multi_prog_and_bare_command_names_are_found(cluster: Cluster, srun: Srun) -> None:
    (cluster.home() / "programs").write_text("0 echo zero\n1 /bin/echo one\n")
    lines = srun("-n2", "--multi-prog", "programs").stdout.splitlines()
    assert sorted(lines) == ["one", "zero"]


def test_without_the_options_nothing_changes(cluster: Cluster) -> None:
    done = cluster.srun(["sh", "-c", "readlink /proc/self/ns/user; env | grep -c PINNACE"])
    own = cluster.run(["readlink", "/proc/self/ns/user"]).stdout
    assert done.stdout == own + "0\n"

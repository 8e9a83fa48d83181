"""The writable layer: in memory, on a disk of the node, or kept; full, in use, left over, or not possible."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import images
from cluster.cluster import Cluster, wait_until
from cluster.squash import squash
from cluster.users import ADA, BEN, User

Run = Callable[..., "subprocess.CompletedProcess[str]"]
FULL = "pinnace: warning: the container's writable layer (1 MiB of memory) is full; raise writable_size"
NO_SPACE = "No space left on device"
IN_USE = "wait for its end, or give another directory"
FILL = "cat /bin/busybox > /big"


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    return squash(images.tiny(), cluster.directory / "layer.sqsh")


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


@pytest.fixture
def run(cluster: Cluster, image: Path) -> Run:
    """``pinnace run --rw`` of a shell script; keywords are settings."""

    def run(
        script: str, *options: str, user: User = ADA, **settings: Any
    ) -> subprocess.CompletedProcess[str]:
        env = {f"PINNACE_{name.upper()}": str(value) for name, value in settings.items()}
        command = ["pinnace", "run", "--rw", *options, str(image), "--", "sh", "-c", script]
        return cluster.run(command, env=env, user=user, timeout=60)

    return run


@pytest.fixture
def start(cluster: Cluster, image: Path) -> Callable[..., subprocess.Popen[str]]:
    """The same of a script that says ``ready`` when it is, without waiting for its end."""

    def start(script: str, *options: str, **settings: Any) -> subprocess.Popen[str]:
        env = {f"PINNACE_{name.upper()}": str(value) for name, value in settings.items()}
        command = ["pinnace", "run", "--rw", *options, str(image), "--", "sh", "-c", script]
        pipe = subprocess.PIPE
        running = cluster.popen(command, env=env, stdout=pipe, stdin=pipe, stderr=pipe)
        assert running.stdout is not None
        if running.stdout.readline() != "ready\n":
            pytest.fail(f"no container: {running.communicate()} {running.returncode}")
        return running

    return start


@pytest.fixture
def scratch(cluster: Cluster) -> Iterator[Path]:
    """A directory to which all users may write, as /scratch of a node. It is empty in the end."""
    scratch = cluster.directory / "scratch"
    scratch.mkdir()
    scratch.chmod(0o1777)
    yield scratch
    wait_until(lambda: not list(scratch.iterdir()), what="an empty scratch")
    scratch.rmdir()


@pytest.fixture
def disk(cluster: Cluster, scratch: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system of the kind that is asked for on scratch, which is empty but for it."""
    kind, size = request.param, 400 << 20 if request.param == "xfs" else 8 << 20
    file = cluster.directory / f"disk.{kind}"
    with file.open("wb") as stream:
        stream.truncate(size)
    subprocess.run([f"mkfs.{kind}", "-q", str(file)], check=True)
    cluster.run(["mount", "-o", "loop", str(file), str(scratch)], user=None, check=True)
    cluster.run(["chmod", "1777", str(scratch)], user=None, check=True)
    cluster.run(["rm", "-rf", f"{scratch}/lost+found"], user=None, check=True)
    try:
        yield scratch
        listing = ["ls", "-A", str(scratch)]
        wait_until(lambda: not cluster.run(listing, user=None).stdout, what="an empty disk")
    finally:
        cluster.run(["umount", str(scratch)], user=None, check=True)
        file.unlink()


@pytest.mark.parametrize("overlay", ["kernel", "fuse-overlayfs"])
def test_a_full_layer_in_memory_is_an_error_of_the_program_and_told_at_the_end(
    run: Run, overlay: str
) -> None:
    done = run(f"{FILL}; echo end", writable_size="1M", overlay=overlay)
    assert done.stdout == "end\n"
    assert [FULL in line for line in done.stderr.splitlines() if "pinnace" in line] == [True], done.stderr
    if overlay == "kernel":  # fuse-overlayfs writes later, when nobody asks any more
        assert NO_SPACE in done.stderr


def test_a_layer_with_room_is_not_worth_a_word(run: Run) -> None:
    done = run("head -c 500000 /bin/busybox > /half", writable_size="1M")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_step_is_told_that_its_layer_was_full(cluster: Cluster, image: Path) -> None:
    asked = [f"--container-image={image}", "--container-writable", "-n2"]
    done = cluster.srun([*asked, "sh", "-c", f"{FILL}; true"], env={"PINNACE_WRITABLE_SIZE": "1M"})
    assert [FULL in line for line in done.stderr.splitlines() if "pinnace" in line] == [True], done.stderr
    assert NO_SPACE in done.stderr


def test_a_layer_in_memory_takes_half_of_what_the_control_group_may(cluster: Cluster, image: Path) -> None:
    script = f"""
        group=/sys/fs/cgroup/memory/small
        mkdir -p $group/inner
        echo 96M > $group/memory.limit_in_bytes
        echo 0 > $group/inner/cgroup.procs
        setpriv --reuid={ADA.uid} --regid={ADA.gid} --clear-groups \\
            pinnace run --rw {image} df -m /
        status=$?
        echo 0 > /sys/fs/cgroup/memory/cgroup.procs
        sleep 1
        rmdir $group/inner $group
        exit $status
    """
    done = cluster.run(["sh", "-c", script], user=None, env={"HOME": str(cluster.home())})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[1] == "48"


def test_a_layer_on_disk_is_private_and_goes_with_the_container(
    start: Callable[..., subprocess.Popen[str]], scratch: Path
) -> None:
    with start("touch /x; echo ready; read line", writable_layer=scratch) as running:
        (layer,) = scratch.iterdir()
        assert (layer.stat().st_uid, layer.stat().st_mode & 0o777) == (ADA.uid, 0o700)
        assert (layer / "upper" / "x").exists()
        running.communicate("end\n", timeout=30)
    wait_until(lambda: not layer.exists(), what="the end of the layer")


def test_a_container_that_may_not_write_needs_no_disk(cluster: Cluster, image: Path) -> None:
    env = {"PINNACE_WRITABLE_LAYER": "/no/such/directory"}
    assert cluster.run(["pinnace", "run", "--ro", str(image), "true"], env=env).returncode == 0


def test_a_layer_goes_whatever_is_in_it(run: Run, scratch: Path) -> None:
    script = """
        mkdir -p /closed/inner && touch /closed/inner/y && chmod 0 /closed/inner /closed
        i=0; while [ $i -lt 300 ]; do mkdir directory && cd directory && touch file && i=$((i + 1)); done
        ln -s /etc /link; ln -s / /closed-link; rm -r /etc/os-release /bin/wc
    """
    assert run(script, writable_layer=scratch).stderr == ""  # the fixture waits for an empty directory


def test_a_layer_on_disk_goes_after_everything_but_the_keeper_was_killed(
    cluster: Cluster, start: Callable[..., subprocess.Popen[str]], scratch: Path
) -> None:
    running = start("touch /x; echo ready; exec sleep 94", writable_layer=scratch)
    for pid, words in cluster.node_processes(cluster.login).items():
        if "squashfuse" in words or "sleep 94" in words:
            os.kill(pid, signal.SIGKILL)
    running.communicate(timeout=30)
    assert running.returncode != 0


def test_what_a_killed_keeper_left_goes_with_the_users_next_container(
    cluster: Cluster, run: Run, start: Callable[..., subprocess.Popen[str]], scratch: Path
) -> None:
    running = start("touch /x; echo ready; read line", writable_layer=scratch)
    (left,) = scratch.iterdir()
    for pid, words in cluster.node_processes(cluster.login).items():
        if "pinnace-exec --plan=" in words:
            os.kill(pid, signal.SIGKILL)
    running.communicate("end\n", timeout=30)
    (scratch / "pinnace-of-somebody").mkdir()
    assert run("true", user=BEN, writable_layer=scratch).returncode == 0
    wait_until(lambda: len(list(scratch.iterdir())) == 2, what="the end of Ben's own")
    assert left.exists()
    assert run("true", writable_layer=scratch).returncode == 0
    wait_until(lambda: not left.exists(), what="the end of the leftover")
    (scratch / "pinnace-of-somebody").rmdir()


def test_what_is_in_use_is_no_leftover(
    run: Run, start: Callable[..., subprocess.Popen[str]], scratch: Path
) -> None:
    with start("echo ready; read line; echo kept > /x; cat /x", writable_layer=scratch) as running:
        assert run("true", writable_layer=scratch).returncode == 0
        assert running.communicate("go on\n", timeout=30)[0] == "kept\n"


def test_twenty_containers_at_once_have_a_layer_each(cluster: Cluster, image: Path, scratch: Path) -> None:
    command = ["pinnace", "run", "--rw", str(image), "--", "sh", "-c", "echo $$ > /x; cat /x"]
    env = {"PINNACE_WRITABLE_LAYER": str(scratch)}
    running = [cluster.popen(command, env=env, stdout=subprocess.PIPE) for _ in range(20)]
    for process in running:
        assert process.communicate(timeout=120)[0].strip().isdigit() and process.returncode == 0


def test_a_steps_layer_goes_with_the_step(cluster: Cluster, image: Path, scratch: Path) -> None:
    asked = ["-N2", "-n4", "--ntasks-per-node=2", f"--container-image={image}", "--container-writable"]
    script = "echo $SLURM_PROCID > /task-$SLURM_PROCID; sleep 0.5; cat /task-*"
    done = cluster.srun([*asked, "sh", "-c", script], env={"PINNACE_WRITABLE_LAYER": str(scratch)})
    assert sorted(done.stdout.split()) == ["0", "0", "1", "1", "2", "2", "3", "3"], done.stderr


@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
@pytest.mark.parametrize("overlay", ["kernel", "fuse-overlayfs"])
def test_file_systems_of_disks_hold_layers(run: Run, disk: Path, overlay: str) -> None:
    script = "echo x >> /etc/os-release; rm /bin/wc; cp /bin/busybox /b; mv /b /bin/wc; ls -l /bin/wc >/d"
    assert run(script, writable_layer=disk, overlay=overlay).stderr == ""


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_a_full_disk_is_an_error_of_the_program(run: Run, disk: Path) -> None:
    done = run(
        "cat /bin/busybox /bin/busybox /bin/busybox /bin/busybox /bin/busybox > /big", writable_layer=disk
    )
    assert NO_SPACE in done.stderr and done.returncode == 1


def test_a_layer_is_kept_where_that_is_asked_for(cluster: Cluster, run: Run) -> None:
    upper = cluster.home() / "kept"
    assert run("echo first > /x", "--upper", "./kept").returncode == 0
    assert upper.stat().st_mode & 0o777 == 0o700
    assert run("cat /x; rm /bin/wc", "--upper", str(upper)).stdout == "first\n"
    assert run("ls /bin/wc", "--upper", str(upper)).returncode == 1
    assert run("ls /bin/wc").returncode == 0


def test_a_layer_that_is_kept_serves_one_container_at_a_time(
    cluster: Cluster, run: Run, start: Callable[..., subprocess.Popen[str]]
) -> None:
    upper = str(cluster.home() / "one-at-a-time")
    with start("echo ready; read line", "--upper", upper) as running:
        done = run("true", "--upper", upper)
        assert done.returncode == 125
        assert done.stderr == f"pinnace: error: another container writes to {upper}; {IN_USE}\n"
        running.communicate("end\n", timeout=30)
    assert run("true", "--upper", upper).returncode == 0


@pytest.mark.parametrize(
    ("options", "layer", "expected"),
    [
        ([], "/no/such", ("/no/such", "No such file", "a directory of this node")),
        ([], "/root", ("/root", "Permission denied")),
        ([], "scratch", ("writable_layer = 'scratch'", "tmpfs, or an absolute path")),
        (["--upper", "/no/such/directory"], "tmpfs", ("/no/such/directory", "No such file")),
        (["--upper", "/etc"], "tmpfs", ("/etc belongs to somebody else", "your own")),
        (["--upper", "/etc/passwd"], "tmpfs", ("/etc/passwd", "Not a directory")),
    ],
)
@pytest.mark.parametrize("overlay", ["auto", "kernel"])
def test_a_directory_that_cannot_be_used_is_told_in_one_line(
    run: Run, options: list[str], layer: str, expected: tuple[str, ...], overlay: str
) -> None:
    done = run("true", *options, writable_layer=layer, overlay=overlay)
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1, done.stderr
    for word in expected:
        assert word in done.stderr


@pytest.mark.parametrize("overlay", ["auto", "fuse-overlayfs"])
def test_a_network_file_system_is_refused_with_a_way_out(
    cluster: Cluster, run: Run, image: Path, scratch: Path, overlay: str
) -> None:
    """FUSE stands for all of them: sshfs and others have no type of their own."""
    mount = ["squashfuse_ll", "-o", "allow_other", str(image), str(scratch)]
    cluster.run(mount, user=None, check=True)
    try:
        for options in ((), ("--upper", str(scratch / "etc"))):
            done = run("true", *options, writable_layer=scratch, overlay=overlay)
            assert done.returncode == 125 and len(done.stderr.splitlines()) == 1, done.stderr
            assert "cannot lie on FUSE" in done.stderr and 'writable_layer = "tmpfs"' in done.stderr
    finally:
        cluster.run(["umount", str(scratch)], user=None, check=True)
        wait_until(
            lambda: not any("squashfuse" in line for line in cluster.node_processes(cluster.login).values()),
            what="the end of the server",
        )

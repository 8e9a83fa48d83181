"""hooks.d: programs of a site that are executed while a container is made."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster, wait_until
from cluster.host import send_signal
from cluster.users import ADA

FRONTS = {
    "run": ["pinnace", "run"],
    "step": ["srun", "-wn1", "--container-image"],
}


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    for name in ("hooks.d", "environ.d"):
        shutil.rmtree(_etc(cluster) / name, ignore_errors=True)
    shutil.rmtree(cluster.home() / ".config", ignore_errors=True)
    assert cluster.leftovers() == []


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> list[str]:
    return FRONTS[request.param]


@pytest.fixture
def image(cluster: Cluster, tiny_image: str) -> str:
    """An image that is in the user's store."""
    cluster.run(["pinnace", "pull", "-q", tiny_image], check=True)
    return tiny_image


def _etc(cluster: Cluster) -> Path:
    return cluster.prefix / "etc" / "pinnace"


def hook(cluster: Cluster, name: str, text: str, mode: int = 0o755) -> None:
    path = _etc(cluster) / "hooks.d" / name
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(f"#!/bin/bash\nset -eu\n{text}\n")
    path.chmod(mode)


def said(cluster: Cluster, front: list[str], image: str, script: str, **environment: str) -> str:
    done = cluster.run([*front, image, "sh", "-c", script], env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hooks_see_container_and_host_and_what_they_append_counts(
    cluster: Cluster, image: str, front: list[str]
) -> None:
    hook(
        cluster,
        "10-a.sh",
        'echo "root:$(cat "$ENROOT_ROOTFS"/etc/os-release | wc -l)" > "$ENROOT_ROOTFS"/etc/hook',
    )
    hook(
        cluster,
        "20-b.sh",
        'echo "/etc/passwd /from-hook x-create=file,bind,ro" >> "$ENROOT_MOUNTS"\n'
        'echo "$ENROOT_ROOTFS/etc /again none x-create=dir,bind" >> "$ENROOT_MOUNTS"\n'
        'printf \'FROM_HOOK=%s\\n\' "$WHO $(id -un)" >> "$ENROOT_ENVIRON"',
    )
    hook(cluster, "30-not-executable.sh", "exit 1", mode=0o644)
    hook(cluster, "README", "exit 1")
    look = f"cat /again/hook; grep -c ^{ADA.name}: /from-hook; echo $FROM_HOOK; ls /sys/kernel/debug"
    for who in ("one", "two"):  # by Python, then by the kept plan
        seen = said(cluster, front, image, look, WHO=who).splitlines()
        assert seen[0].startswith("root:") and seen[1:] == ["1", f"{who} {ADA.name}"]


def test_hooks_find_the_variables_of_the_container(cluster: Cluster, image: str, front: list[str]) -> None:
    (_etc(cluster) / "environ.d").mkdir()
    (_etc(cluster) / "environ.d").chmod(0o755)
    (_etc(cluster) / "environ.d/a.env").write_text("DEVICES=all\n")
    hook(cluster, "a.sh", 'grep -q ^DEVICES=all$ "$ENROOT_ENVIRON" && echo GIVEN=yes >> "$ENROOT_ENVIRON"')
    assert said(cluster, front, image, "echo $GIVEN") == "yes\n"


def test_hooks_may_mount_and_what_they_print_goes_to_the_user(
    cluster: Cluster, image: str, front: list[str]
) -> None:
    hook(
        cluster,
        "a.sh",
        'mkdir "$ENROOT_ROOTFS/own"; mount -t tmpfs none "$ENROOT_ROOTFS/own"; echo hello >&2; echo out',
    )
    done = cluster.run([*front, image, "sh", "-c", "grep -c ' /own ' /proc/mounts"], timeout=120)
    assert (done.returncode, done.stdout) == (0, "1\n") and done.stderr.splitlines() == ["hello"]


def test_each_task_of_a_step_has_the_variables_once(cluster: Cluster, image: str) -> None:
    hook(cluster, "a.sh", 'echo "RANK=${SLURM_PROCID-none}, $SLURM_STEP_ID" >> "$ENROOT_ENVIRON"')
    done = cluster.srun(["-N2", "-n4", f"--container-image={image}", "sh", "-c", "echo $RANK"], timeout=120)
    assert done.stdout.splitlines() == ["none, 0"] * 4, done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exit 7", "hooks.d/a.sh exited with return code 7"),
        ("kill -9 $$", "hooks.d/a.sh was killed by signal 9"),
        ('echo "/a /b none frob,bind" >> "$ENROOT_MOUNTS"', "unknown option frob (what a hook appended to"),
        ('echo "what" >> "$ENROOT_ENVIRON"', "`what` is no variable"),
    ],
)
def test_a_hook_that_fails_stops_the_start_with_one_line(
    cluster: Cluster, image: str, front: list[str], text: str, line: str
) -> None:
    hook(cluster, "a.sh", text)
    done = cluster.run([*front, image, "true"], timeout=120)
    assert done.returncode == (125 if front[1] == "run" else 1)
    (said,) = [text for text in done.stderr.splitlines() if text.startswith("pinnace: ")]
    assert said.startswith("pinnace: error: ") and line in said


def test_a_hook_that_cannot_be_executed_is_named(cluster: Cluster, image: str, front: list[str]) -> None:
    hook(cluster, "a.sh", "")
    (_etc(cluster) / "hooks.d/a.sh").write_text("#!/no/such/shell\n")
    done = cluster.run([*front, image, "true"], timeout=120)
    assert done.returncode != 0 and "cannot execute the hook" in done.stderr


def test_entry_points_have_the_hooks_variables_too(cluster: Cluster, image: str) -> None:
    hook(cluster, "a.sh", 'echo FROM_HOOK=yes >> "$ENROOT_ENVIRON"')
    arguments = [f"--container-image={image}", "--container-entrypoint", "sh", "-c", "echo $FROM_HOOK"]
    assert cluster.srun(arguments, timeout=120).stdout == "yes\n"


@pytest.mark.parametrize("front", FRONTS)
def test_a_start_that_is_killed_in_a_hook_leaves_nothing(cluster: Cluster, image: str, front: str) -> None:
    started = cluster.home() / "started"
    hook(cluster, "a.sh", f"touch {started}; exec sleep 1000")
    starting = cluster.popen([*FRONTS[front], image, "true"], stderr=subprocess.DEVNULL)
    try:
        wait_until(started.exists, what="the hook has been started")
    finally:
        send_signal(starting, signal.SIGKILL if front == "run" else signal.SIGTERM)
        starting.wait(60)
        cluster.cancel_all()
        started.unlink(missing_ok=True)


def test_a_caller_that_ignores_its_children_may_have_hooks(cluster: Cluster, image: str) -> None:
    hook(cluster, "10-a.sh", 'echo FROM_HOOK=said >> "$ENROOT_ENVIRON"')
    front = ["env", "--ignore-signal=CHLD", *FRONTS["run"]]
    assert said(cluster, front, image, "echo $FROM_HOOK") == "said\n"
    hook(cluster, "20-b.sh", "exit 7")
    done = cluster.run([*front, image, "true"])
    assert done.returncode == 125 and "20-b.sh exited with return code 7" in done.stderr

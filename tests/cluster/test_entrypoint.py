"""Entry points of images: executed once for the container of a step, which takes on what they leave."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import images, oci
from cluster.cluster import Cluster, wait_until
from cluster.registry import Registry
from cluster.squash import squash, squash_tree

Srun = Callable[..., "subprocess.CompletedProcess[str]"]

_ENTRY = b"""\
#!/bin/sh
printf '== BANNER ==\\033\\n'
echo "to stderr, mode ${MODE-none}" >&2
[ "$MODE" != fail ] || exit 7
[ "$MODE" != exit ] || exit 0
[ "$MODE" != kill ] || kill -9 $$
[ "$MODE" != hang ] || sleep 1000
[ "$MODE" != look ] || ls /proc/$PPID/fd/ >&2
export FROM_ENTRY="set by entry" LANG=C.UTF-8 SEEN="${MODE-none}${SECRET-}" WHO=$(whoami) INPUT=$(cat)
unset GONE
cd /srv
[ "$MODE" != daemon ] || sleep 1000 &
if [ "$MODE" = fork ]; then "$@"; else exec "$@"; fi
"""
_HOOK = '#!/bin/sh\necho MODE=hook >> "$ENROOT_ENVIRON"\n'
_SHOW = "echo $FROM_ENTRY, $SEEN, $LANG, ${GONE-gone}, $WHO, $INPUT, $PWD, $(pwd)"
_SHOWN = "set by entry, none, C.UTF-8, gone, ada, , /srv, /srv\n"


@pytest.fixture(scope="module")
def image(registry: Registry, cluster: Cluster) -> str:
    """An image with an entry point that changes variables and directory."""
    layout = cluster.directory / "entrypoint"
    own = oci.tar({"entry": _ENTRY, "srv": None}, executable=["entry"])
    oci.write_layout(
        layout,
        [*oci.layers(images.tiny()), own],
        {
            "Env": ["PATH=/bin", "GONE=not"],
            "Entrypoint": ["/entry"],
            "Cmd": ["/bin/false"],
            "WorkingDir": "/etc",
        },
    )
    return registry.push(layout, "entrypoint:1")


@pytest.fixture
def srun(cluster: Cluster, image: str) -> Srun:
    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return cluster.srun([f"--container-image={image}", *words], timeout=120, **options)

    return run


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def test_it_is_left_out_unless_asked_for(srun: Srun) -> None:
    done = srun("sh", "-c", "echo ${FROM_ENTRY-nothing} $GONE $(pwd)")
    assert done.stdout == "nothing not /etc\n", done.stderr
    assert srun("--no-container-entrypoint", "sh", "-c", "echo ${FROM_ENTRY-nothing}").stdout == "nothing\n"
    by_variable = srun("sh", "-c", _SHOW, env={"PYXIS_CONTAINER_ENTRYPOINT": "1"})
    assert by_variable.stdout == _SHOWN, by_variable.stderr


def test_all_tasks_take_on_its_variables_and_its_directory(srun: Srun) -> None:
    done = srun("-N2", "-n4", "--container-entrypoint", "sh", "-c", _SHOW)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 4 * _SHOWN


def test_a_batch_script_takes_them_on_too(cluster: Cluster, image: str) -> None:
    output = cluster.home() / "entrypoint.out"
    options = [f"--container-image={image}", "--container-entrypoint", f"--output={output}"]
    job = cluster.sbatch(_SHOW, options)
    assert cluster.wait_for_job(job) == "COMPLETED"
    assert output.read_text().endswith(_SHOWN)  # behind what the pull tells


def test_the_next_start_needs_no_python_and_does_the_same(cluster: Cluster, srun: Srun) -> None:
    options = ("--container-entrypoint", "sh", "-c", _SHOW)
    assert srun(*options).stdout == _SHOWN
    again = srun(*options, env={"PINNACE_TIMINGS": "1"})
    timed = srun(*options, env={"PINNACE_TIMINGS": "1"})
    assert again.stdout == timed.stdout == _SHOWN
    assert "kept plan" in timed.stderr and "entry point" in timed.stderr


def test_a_directory_that_was_asked_for_wins(srun: Srun) -> None:
    done = srun("--container-entrypoint", "--container-workdir=/bin", "sh", "-c", "echo $FROM_ENTRY; pwd")
    assert done.stdout == "set by entry\n/bin\n", done.stderr


def test_it_gets_variables_of_the_job_only_by_container_env(srun: Srun) -> None:
    job = {"SECRET": " of the job", "LANG": "de_DE.UTF-8"}
    seen = ("sh", "-c", "echo $SEEN, $LANG")
    assert srun("--container-entrypoint", *seen, env=job).stdout == "none, C.UTF-8\n"
    named = srun("--container-entrypoint", "--container-env=SECRET,LANG", *seen, env=job)
    assert named.stdout == "none of the job, de_DE.UTF-8\n"
    changed = srun("--container-entrypoint", "--container-env=SECRET,LANG", *seen, env=job | {"SECRET": "!"})
    assert changed.stdout == "none!, de_DE.UTF-8\n"


def test_it_gets_what_a_site_and_its_hooks_set(cluster: Cluster, srun: Srun) -> None:
    etc = cluster.prefix / "etc" / "pinnace"
    files = {"environ.d/a.env": "SECRET=site\n", "hooks.d/a.sh": _HOOK}
    for name, text in files.items():
        (etc / name).parent.mkdir(mode=0o755)
        (etc / name).write_text(text)
        (etc / name).chmod(0o755)
    try:
        for _ in range(2):  # by Python, then by the kept plan
            done = srun("--container-entrypoint", "sh", "-c", "echo $SEEN")
            assert done.stdout == "hooksite\n", done.stderr
    finally:
        for name in files:
            shutil.rmtree((etc / name).parent)


def test_what_it_prints_is_told_on_demand_and_cannot_pass_for_anything_else(srun: Srun) -> None:
    assert srun("--container-entrypoint", "true").stderr == ""
    done = srun("-n3", "--container-entrypoint", "--container-entrypoint-log", "true")
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "pinnace: entrypoint: == BANNER ==\\x1b",
        "pinnace: entrypoint: to stderr, mode none",
    ]
    assert srun("--no-container-entrypoint", "--container-entrypoint-log", "true").stderr == ""


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("fail", "the image's entry point failed with exit status 7"),
        ("exit", "the image's entry point has not executed the command that it was given"),
        ("kill", "the image's entry point was killed by signal 9"),
    ],
)
def test_one_that_does_not_execute_its_command_fails_the_step_and_shows_why(
    srun: Srun, mode: str, expected: str
) -> None:
    options = ("-n2", "--container-entrypoint", "--container-env=MODE")
    done = srun(*options, "echo", "task", env={"MODE": mode})
    assert (done.returncode, done.stdout) == (1, "")
    (error,) = (line for line in done.stderr.splitlines() if "pinnace: error" in line)
    assert expected in error and "try using --no-container-entrypoint" in error
    assert f"pinnace: entrypoint: to stderr, mode {mode}" in done.stderr


@pytest.mark.parametrize("mode", ["fork", "daemon"])
def test_one_may_stay_beside_its_command_or_leave_something_running(srun: Srun, mode: str) -> None:
    done = srun("--container-entrypoint", "--container-env=MODE", "sh", "-c", _SHOW, env={"MODE": mode})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == _SHOWN.replace("none", mode)


def _hang(cluster: Cluster, image: str) -> subprocess.Popen[str]:
    """A step of two tasks whose entry point does not end."""
    options = [f"--container-image={image}", "--container-entrypoint", "--container-env=MODE"]
    pipe = subprocess.PIPE
    step = cluster.popen(
        ["srun", "-wn1", "-n2", *options, "true"], env={"MODE": "hang"}, stdout=pipe, stderr=pipe
    )
    wait_until(lambda: _sleeping(cluster), what="the entry point")
    return step


def _sleeping(cluster: Cluster) -> list[int]:
    processes = cluster.node_processes(cluster.nodes[0])
    return [pid for pid, words in processes.items() if "sleep 1000" in words]


def test_one_that_hangs_ends_with_its_step(cluster: Cluster, image: str) -> None:
    step = _hang(cluster, image)
    cluster.cancel_all()
    step.communicate(timeout=60)
    assert step.returncode != 0
    wait_until(lambda: not _sleeping(cluster), what="the entry point to end")


def test_one_ends_with_the_executor_that_waits_for_it_and_is_not_taken_for_done(
    cluster: Cluster, image: str
) -> None:
    step = _hang(cluster, image)
    processes = cluster.node_processes(cluster.nodes[0])
    executors = [pid for pid, words in processes.items() if "pinnace-exec" in words]
    subprocess.run(["kill", "-9", *map(str, executors)], check=True)
    _, messages = step.communicate(timeout=60)
    assert step.returncode == 137 and messages.count("was killed by signal 9") == 1
    wait_until(lambda: not _sleeping(cluster), what="the entry point to end")


def test_root_stays_root_and_what_it_writes_is_there_for_the_tasks(srun: Srun) -> None:
    options = ("--container-entrypoint", "--container-remap-root", "--container-writable")
    done = srun(*options, "sh", "-c", "echo $WHO")
    assert done.stdout == "root\n", done.stderr


def test_an_image_without_an_entry_point_has_nothing_to_execute(cluster: Cluster, tiny_image: str) -> None:
    options = [f"--container-image={tiny_image}", "--container-entrypoint", "--container-entrypoint-log"]
    done = cluster.srun([*options, "echo", "well"], timeout=120)
    assert done.stdout == "well\n" and "entrypoint" not in done.stderr


def test_a_squashfs_file_has_its_script_for_an_entry_point(cluster: Cluster, tmp_path: Path) -> None:
    plain = squash(images.tiny(), cluster.directory / "plain.sqsh")
    tree = tmp_path / "tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tree), str(plain)], check=True, capture_output=True)
    (tree / "etc" / "rc").write_text('. /etc/rc.local\ncd /bin && unset OLDPWD || exit 1\nexec "$@"\n')
    (tree / "etc" / "rc.local").write_text("export LOCAL=local\n")
    (tree / "etc" / "environment").write_text("PATH=/bin\nA=one\n")
    file = squash_tree(tree, cluster.directory / "script.sqsh")
    show = ["sh", "-c", "echo ${LOCAL-none} $A $(pwd)"]
    asked = cluster.srun([f"--container-image={file}", "--container-entrypoint", *show], timeout=120)
    assert asked.stdout == "local one /bin\n", asked.stderr
    without = cluster.srun([f"--container-image={plain}", "--container-entrypoint", *show], timeout=120)
    assert without.stdout == "none /\n", without.stderr


def test_it_finds_nothing_that_the_executor_holds(srun: Srun) -> None:
    """Not even under remap-root, where it has the executor's rights: it holds the host's tree."""
    options = ["--container-entrypoint", "--container-remap-root", "--container-entrypoint-log"]
    done = srun(*options, "--container-env=MODE", "true", env={"MODE": "look"})
    assert "Permission denied" in done.stderr and done.returncode == 0, done.stderr

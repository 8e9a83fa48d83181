"""Starts without Python: when a kept plan is used, when not, and that nobody can tell the difference."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster, wait_until
from cluster.registry import Registry
from cluster.squash import squash

KEPT, PYTHON = "kept plan", "python"

FRONTS = {
    "run": ["pinnace", "run"],
    "step": ["srun", "-wn1", "--container-image"],
}
_LOOK = (
    "id; pwd; umask; env | grep -v SLURM | sort; cat /etc/passwd /etc/group /proc/mounts; ls -l /proc/$$/fd"
)


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    shutil.rmtree(cluster.home() / ".cache/pinnace/plans", ignore_errors=True)
    yield
    shutil.rmtree(cluster.home() / ".config", ignore_errors=True)
    assert cluster.leftovers() == []


@pytest.fixture
def image(cluster: Cluster, tiny_image: str) -> str:
    """An image that is in the user's store."""
    cluster.run(["pinnace", "pull", "-q", tiny_image], check=True)
    return tiny_image


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> list[str]:
    return FRONTS[request.param]


def start(cluster: Cluster, front: list[str], image: str, *command: str, **options: object) -> str:
    """Start a container and say which way it went."""
    environment = {"PINNACE_TIMINGS": "1", **options.pop("env", {})}  # type: ignore[dict-item]
    done = cluster.run([*front, image, *(command or ["true"])], env=environment, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("pinnace: timings, ms: "))
    return KEPT if line.startswith(f"pinnace: timings, ms: {KEPT} ") else PYTHON


def entries(cluster: Cluster) -> list[Path]:
    return list((cluster.home() / ".cache/pinnace/plans").glob("*/*"))


def own(cluster: Cluster, path: Path, text: str) -> None:
    """Write a file of the user's."""
    cluster.run(["sh", "-c", 'mkdir -p "${1%/*}" && cat > "$1"', "sh", str(path)], input=text, check=True)


def test_a_second_start_needs_no_python(cluster: Cluster, image: str, front: list[str]) -> None:
    assert [start(cluster, front, image) for _ in range(3)] == [PYTHON, KEPT, KEPT]


def test_a_file_by_its_path_needs_none_either(cluster: Cluster, front: list[str]) -> None:
    file = squash(images.tiny(), cluster.home() / "tiny.sqsh")
    file.chmod(0o644)
    assert [start(cluster, front, "./tiny.sqsh") for _ in range(2)] == [PYTHON, KEPT]
    assert start(cluster, front, "./tiny.sqsh", cwd=str(_beside(cluster, file))) == PYTHON
    os.utime(file)
    assert [start(cluster, front, str(file)) for _ in range(2)] == [PYTHON, KEPT]
    os.utime(file)
    assert start(cluster, front, str(file)) == PYTHON


@pytest.mark.parametrize("overlay", ["kernel", "fuse-overlayfs"])
@pytest.mark.parametrize("backend", ["squashfuse", "unpack"])
def test_it_is_so_with_each_backend(
    cluster: Cluster, image: str, front: list[str], backend: str, overlay: str
) -> None:
    environment = {"PINNACE_BACKEND": backend, "PINNACE_OVERLAY": overlay}
    start(cluster, front, image, env=environment)  # it may have to unpack
    start(cluster, front, image, env=environment)
    assert start(cluster, front, image, env=environment) == KEPT


def test_a_tree_that_was_removed_is_not_used(cluster: Cluster, image: str) -> None:
    run = [*FRONTS["run"], "--backend=unpack"]
    for _ in range(2):
        start(cluster, run, image)
    assert start(cluster, run, image) == KEPT
    shutil.rmtree(cluster.home() / ".cache/pinnace/unpacked")
    assert start(cluster, run, image) == PYTHON


def _beside(cluster: Cluster, file: Path) -> Path:
    """Another directory with the same file."""
    directory = cluster.home() / "beside"
    cluster.run(["sh", "-c", f"mkdir -p {directory} && ln -f {file} {directory}"], check=True, user=None)
    return directory


def test_the_container_is_the_same(cluster: Cluster, image: str, front: list[str]) -> None:
    words = ["sh", "-c", _LOOK]
    options = ["--mount", "/etc:/host-etc:ro"] if front[0] == "pinnace" else []
    command = [*front[:2], *options, *front[2:], image, *words]

    def seen(**environment: str) -> str:
        done = cluster.run(command, env={"TERM": "xterm", **environment}, check=True)
        return done.stdout.replace("environment\0PINNACE_PLAN_CACHE=0\n", "")

    by_python = seen(PINNACE_PLAN_CACHE="0")
    assert not entries(cluster)
    seen()
    (entry,) = entries(cluster)
    by_plan = seen()
    lines = [line for line in by_python.splitlines() if not line.startswith("PINNACE_PLAN_CACHE")]
    assert _comparable(by_plan.splitlines()) == _comparable(lines) and entry.exists()


def _comparable(lines: list[str]) -> list[str]:
    """Without what is another thing each time: process numbers, pipes, times."""
    return [
        line for line in lines if "/fd" not in line and " -> " not in line and not line.startswith("total")
    ]


def test_one_plan_serves_any_command_and_any_variables(cluster: Cluster, image: str) -> None:
    def run(*words: str, **environment: str) -> str:
        return cluster.run(["pinnace", "run", *words], env=environment, check=True).stdout

    show = ["sh", "-c", "echo $A-$B-$TERM"]
    assert run("-e", "A=1", image, *show, TERM="vt100") == "1--vt100\n"
    assert run("-e", "A=2", "-eB", image, "--", *show, B="b", TERM="xterm") == "2-b-xterm\n"
    assert run("--env=B", image, *show) == "--\n"
    assert run(image, "echo", "a b", "") == "a b \n"
    assert cluster.run(["pinnace", "run", image], input="echo own shell", check=True).stdout == "own shell\n"
    assert len(entries(cluster)) == 1


def test_standard_streams_are_the_callers(cluster: Cluster, image: str) -> None:
    command = ["pinnace", "run", image, "cat"]
    for _ in range(2):
        assert cluster.run(command, input="text", check=True).stdout == "text"
        closed = cluster.run(["sh", "-c", 'exec "$@" <&- >&-', "sh", *command[:-1], "true"])
        assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
    status = cluster.run(["pinnace", "run", image, "sh", "-c", "exit 7"]).returncode
    assert status == 7 and cluster.run(["pinnace", "run", image, "/none"]).returncode == 127


Change = Callable[[Cluster, str], object]


@contextmanager
def site_file(cluster: Cluster, name: str, text: str) -> Iterator[None]:
    """A file of the administrator's for a while."""
    path = cluster.prefix / "etc/pinnace" / name
    path.parent.mkdir(exist_ok=True)
    before = path.read_text() if path.exists() else None
    path.write_text(text)
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_text(before)


def _users_configuration(cluster: Cluster, image: str) -> None:
    own(cluster, cluster.home() / ".config/pinnace/pinnace.toml", "connections = 2\n")


def _users_configuration_in_place(cluster: Cluster, image: str) -> None:
    file = cluster.home() / ".config/pinnace/pinnace.toml"
    own(cluster, file, "connections = 3\n")
    start(cluster, FRONTS["run"], image)
    own(cluster, file, "connections = 4\n")


def _pulled_again(cluster: Cluster, image: str) -> None:
    cluster.run(["pinnace", "pull", "-q", image], check=True)


def _removed(cluster: Cluster, image: str) -> None:
    cluster.run(["pinnace", "rm", image], check=True)
    cluster.run(["pinnace", "pull", "-q", image], check=True)


def _database(cluster: Cluster, image: str) -> None:
    cluster.login.run(["touch", "/etc/passwd"], user=None, env={}, check=True)


def _executor(cluster: Cluster, image: str) -> None:
    os.utime(cluster.prefix / "libexec/pinnace/pinnace-exec")


def _package(cluster: Cluster, image: str) -> None:
    os.utime(cluster.prefix / "lib/pinnace/pinnace/paths.py")


def _damaged(cluster: Cluster, image: str) -> None:
    for entry in entries(cluster):
        os.truncate(entry, entry.stat().st_size // 3)


def _readable(cluster: Cluster, image: str) -> None:
    for entry in entries(cluster):
        entry.chmod(0o644)


def _of_others(cluster: Cluster, image: str) -> None:
    for entry in entries(cluster):
        os.chown(entry, 0, 0)


def _linked(cluster: Cluster, image: str) -> None:
    for entry in entries(cluster):
        entry.rename(cluster.home() / "entry")
        entry.symlink_to(cluster.home() / "entry")


def _half_removed(cluster: Cluster, image: str) -> None:
    """As a collection that is about to remove the image."""
    for record in (cluster.home() / ".cache/pinnace/images/sha256").glob("*.json"):
        content = record.read_bytes()
        owner = record.stat()
        record.unlink()
        record.write_bytes(content)
        os.chown(record, owner.st_uid, owner.st_gid)


@pytest.mark.parametrize(
    "change",
    [
        _users_configuration,
        _users_configuration_in_place,
        _pulled_again,
        _removed,
        _database,
        _executor,
        _package,
        _damaged,
        _readable,
        _of_others,
        _linked,
        _half_removed,
    ],
)
def test_after_a_change_python_is_asked_once(cluster: Cluster, image: str, change: Change) -> None:
    run = FRONTS["run"]
    assert [start(cluster, run, image) for _ in range(2)] == [PYTHON, KEPT]
    change(cluster, image)
    assert [start(cluster, run, image) for _ in range(2)] == [PYTHON, KEPT]


@pytest.mark.parametrize("name", ["pinnace.toml", "pinnace.d/10-site.toml"])
def test_the_administrators_files_count(cluster: Cluster, image: str, front: list[str], name: str) -> None:
    start(cluster, front, image)
    with site_file(cluster, name, "connections = 3\n"):
        assert [start(cluster, front, image) for _ in range(2)] == [PYTHON, KEPT]
    assert start(cluster, front, image) == PYTHON


@pytest.mark.parametrize(
    "environment",
    [
        {"PINNACE_CONNECTIONS": "3"},
        {"XDG_CONFIG_HOME": "/nowhere"},
        {"PINNACE_STORE": ""},
    ],
)
def test_variables_that_configure_count(
    cluster: Cluster, image: str, front: list[str], environment: dict[str, str]
) -> None:
    start(cluster, front, image)
    assert [start(cluster, front, image, env=environment) for _ in range(2)] == [PYTHON, KEPT]
    assert start(cluster, front, image, env={"UNRELATED": "1", **environment}) == KEPT
    assert start(cluster, front, image) == PYTHON


def test_another_store_is_another_start(cluster: Cluster, image: str) -> None:
    run = FRONTS["run"]
    start(cluster, run, image)
    store, moved = cluster.home() / ".cache/pinnace", cluster.home() / "moved"
    shutil.copytree(store, moved, symlinks=True)
    cluster.run(["chown", "-R", "--reference", str(store), str(moved)], user=None, check=True)
    try:
        assert start(cluster, run, image, env={"PINNACE_STORE": str(moved)}) == PYTHON
        assert start(cluster, run, image, env={"PINNACE_STORE": str(moved)}) == KEPT
    finally:
        shutil.rmtree(moved)
    gone = cluster.run(["pinnace", "run", "--pull=never", image, "true"], env={"PINNACE_STORE": str(moved)})
    assert gone.returncode == 125 and "not in the store" in gone.stderr


def test_other_groups_are_another_user(cluster: Cluster, image: str) -> None:
    start(cluster, FRONTS["run"], image)
    # Nobody but root may leave a group: a user namespace gives up all of them.
    command = ["unshare", "--user", "--map-current-user", *FRONTS["run"]]
    assert start(cluster, command, image, "true") == PYTHON


def test_a_tag_that_moved_is_followed(cluster: Cluster, registry: Registry) -> None:
    first = registry.push(images.tiny(), "moving:1")
    show = ["sh", "-c", "echo $PINNACE_IMAGE_DIGEST"]
    command = ["pinnace", "run", first, *show]
    before = [cluster.run(command, check=True).stdout for _ in range(3)]
    registry.push(images.debian(), "moving:1")
    cluster.run(["pinnace", "pull", "-q", first], check=True)
    after = [cluster.run(command, check=True).stdout for _ in range(2)]
    assert len(set(before)) == 1 and len(set(after)) == 1 and before[0] != after[0]


def test_who_wants_a_registry_asked_has_it_asked(cluster: Cluster, image: str, front: list[str]) -> None:
    environment = {"PINNACE_PULL": "always"}
    assert [start(cluster, front, image, env=environment) for _ in range(2)] == [PYTHON, PYTHON]


def test_a_collection_spares_what_was_started_without_python(cluster: Cluster, image: str) -> None:
    run = FRONTS["run"]
    environment = {"PINNACE_TIMINGS": "1"}
    start(cluster, run, image)
    command = [*run, image, "sh", "-c", "echo ready; read end"]
    collect = ["pinnace", "store", "gc", "--quota", "1"]

    def is_there() -> bool:
        return image.replace("#", "/") in cluster.run(["pinnace", "images"], check=True).stdout

    with cluster.popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        cluster.run(collect, check=True)
        assert is_there()
        assert KEPT in running.communicate("end\n")[1]
    wait_until(lambda: not cluster.leftovers(), what="the end of the lease")
    cluster.run(collect, check=True)
    assert not is_there()
    assert [start(cluster, run, image) for _ in range(3)] == [PYTHON, PYTHON, KEPT]  # the first has to pull


def test_who_asks_is_told_why_python_was_needed(cluster: Cluster, image: str) -> None:
    def told() -> list[str]:
        lines = cluster.run(["pinnace", "run", "--timings", image, "true"], check=True).stderr.splitlines()
        return [line for line in lines if "timings, ms" not in line]

    (first,) = told()
    assert first.startswith("pinnace: no kept plan: cannot open ") and told() == []
    own(cluster, cluster.home() / ".config/pinnace/pinnace.toml", "connections = 2\n")
    (changed,) = told()
    assert changed == f"pinnace: no kept plan: {cluster.home()}/.config/pinnace/pinnace.toml is not as it was"


def test_a_removed_image_is_not_started(cluster: Cluster, image: str) -> None:
    command = ["pinnace", "run", "--pull", "never", image, "true"]
    for _ in range(2):
        cluster.run(command, check=True)
    cluster.run(["pinnace", "rm", image], check=True)
    done = cluster.run(command)
    assert done.returncode == 125 and "not in the store" in done.stderr


def test_it_can_be_switched_off(cluster: Cluster, image: str, front: list[str]) -> None:
    start(cluster, front, image)
    off = {"PINNACE_PLAN_CACHE": "false"}
    assert [start(cluster, front, image, env=off) for _ in range(2)] == [PYTHON, PYTHON]


def test_without_a_home_of_ones_own_there_is_none(cluster: Cluster, image: str) -> None:
    run, store = FRONTS["run"], {"PINNACE_STORE": str(cluster.home() / ".cache/pinnace")}
    for environment in ({"HOME": ""}, {"HOME": "/root"}):
        assert [start(cluster, run, image, env={**environment, **store}) for _ in range(2)] == [
            PYTHON,
            PYTHON,
        ]


def test_roots_starts_leave_a_users_plans_alone(cluster: Cluster, image: str) -> None:
    """As with sudo, which may keep HOME."""
    start(cluster, FRONTS["run"], image)
    before = {path: path.stat().st_mtime_ns for path in entries(cluster)}
    file = str(squash(images.tiny(), cluster.directory / "tiny.sqsh"))
    environment = {"HOME": str(cluster.home()), "PINNACE_STORE": str(cluster.directory / "store")}
    for _ in range(2):
        assert start(cluster, FRONTS["run"], file, user=None, env=environment) == PYTHON
    assert {path: path.stat().st_mtime_ns for path in entries(cluster)} == before


def test_what_is_wrong_is_still_told(cluster: Cluster, image: str) -> None:
    source = cluster.home() / "source"
    cluster.run(["mkdir", str(source)], check=True)
    command = ["pinnace", "run", "--mount", f"{source}:/mnt", image, "true"]
    for _ in range(2):
        cluster.run(command, check=True)
    source.rmdir()
    done = cluster.run(command)
    assert (done.returncode, len(done.stderr.splitlines())) == (125, 1)
    assert f"mount source path does not exist: {source}" in done.stderr


def test_starts_at_once_keep_one_good_plan(cluster: Cluster, image: str) -> None:
    one = f"pinnace run {image} true"
    cluster.run(["sh", "-ec", f'for i in 1 2 3 4 5 6; do {one} & p="$p $!"; done; wait $p'], check=True)
    assert len(entries(cluster)) == 1 and start(cluster, FRONTS["run"], image) == PYTHON  # with timings
    assert start(cluster, FRONTS["run"], image) == KEPT


def test_a_step_without_python_leaves_its_jobs_lease(cluster: Cluster, image: str) -> None:
    start(cluster, FRONTS["step"], image)
    step = f"srun --container-image={image} true"
    script = f'{step} && {step} && echo "$SLURM_JOB_ID-$SLURM_CLUSTER_NAME"'
    done = cluster.run(
        ["salloc", "-Q", "-wn1", "-n1", "sh", "-c", script], check=True, env={"PINNACE_TIMINGS": "1"}
    )
    assert done.stderr.count(f"timings, ms: {KEPT}") == 2
    name = done.stdout.strip()
    leases = cluster.home() / ".cache/pinnace/leases"
    assert [path.name for path in leases.glob(f"*-{name}")]


def test_a_launcher_that_is_gone_is_one_clear_line(cluster: Cluster, image: str) -> None:
    run = FRONTS["run"]
    start(cluster, run, image)
    launcher = cluster.prefix / "libexec/pinnace/pinnace"
    launcher.rename(launcher.with_suffix(".away"))
    try:
        assert start(cluster, run, image) == KEPT  # it is not needed
        done = cluster.run(["pinnace", "images"])
    finally:
        launcher.with_suffix(".away").rename(launcher)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert f"cannot execute {launcher}" in done.stderr


def test_many_tasks_share_a_container_without_python(cluster: Cluster, image: str) -> None:
    command = [
        "srun",
        "-wn1",
        "-n4",
        "--overcommit",
        "--container-image",
        image,
        "sh",
        "-c",
        "readlink /proc/self/ns/mnt",
    ]
    spaces = [cluster.run(command, check=True).stdout.split() for _ in range(2)]
    assert [len(found) for found in spaces] == [4, 4] and [len(set(found)) for found in spaces] == [1, 1]


def test_a_failing_start_is_told_as_by_python(cluster: Cluster, image: str, front: list[str]) -> None:
    option = ["-w", "/none"] if front[0] == "pinnace" else ["--container-workdir", "/none"]
    command: list[str] = [*front[:2], *option, *front[2:], image, "true"]
    first, second = (cluster.run(command) for _ in range(2))
    assert first.returncode == second.returncode != 0
    assert _messages(first) == _messages(second) != []


def _messages(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("pinnace: ")]


def test_ids_of_ten_digits_are_as_good_as_others(cluster: Cluster, tiny_image: str) -> None:
    """As directory services give them."""
    home = cluster.directory / "long-ids"
    home.mkdir()
    os.chown(home, 1843201105, 1843200513)
    person = ["setpriv", "--reuid=1843201105", "--regid=1843200513", "--clear-groups"]
    options = {"user": None, "env": {"HOME": str(home)}, "cwd": home}
    cluster.run([*person, "pinnace", "pull", "-q", tiny_image], check=True, **options)
    for way in (PYTHON, KEPT):
        done = cluster.run([*person, "pinnace", "run", "--timings", tiny_image, "true"], **options)
        assert f"pinnace: timings, ms: {way} " in done.stderr, done.stderr

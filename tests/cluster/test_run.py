"""``pinnace run`` as an ordinary user, on a squashfs file of unknown origin, with each backend."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.host import send_signal
from cluster.squash import squash, squash_tree
from cluster.users import ADA

Run = Callable[..., "subprocess.CompletedProcess[str]"]
OVERLAYS = ("kernel", "fuse-overlayfs")
BACKENDS = ("squashfuse", "unpack")
IDS = ("--no-root", "--root")


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    return squash(images.tiny(), cluster.directory / "tiny.sqsh")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(cluster: Cluster, image: Path, backend: str) -> Run:
    """Run a command in the tiny image; options for ``pinnace run`` come first."""

    def run(*words: str, options: tuple[str, ...] = (), file: Path | None = None, **more: object) -> object:
        name = str(file or image)
        if backend == "unpack":  # what is told then is told once
            cluster.run(["pinnace", "run", "--backend", backend, name, "true"])
        command = ["pinnace", "run", "--backend", backend, *options, name, "--", *words]
        return cluster.run(command, **more)  # type: ignore[arg-type]

    return run  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


@pytest.fixture
def tree(cluster: Cluster) -> Iterator[Path]:
    """A copy of the tiny image's tree, to be changed and squashed."""
    with tempfile.TemporaryDirectory(dir=cluster.directory) as directory:
        Path(directory).chmod(0o755)
        file = squash(images.tiny(), Path(directory) / "base.sqsh")
        target = Path(directory) / "tree"
        subprocess.run(["unsquashfs", "-q", "-n", "-d", str(target), str(file)], check=True)
        yield target


def assert_fails(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One line on standard error that holds every word, and the status."""
    assert (done.returncode, done.stdout) == (status, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("pinnace: error: ")
    for word in words:
        assert word in done.stderr


def test_the_command_sees_the_image(run: Run) -> None:
    assert run("cat", "/etc/os-release", check=True).stdout == 'PRETTY_NAME="Tiny"\n'


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_status_is_the_commands(run: Run, status: int) -> None:
    assert run("sh", "-c", f"exit {status}").returncode == status


def test_a_command_killed_by_a_signal_kills_the_run_in_the_same_way(run: Run) -> None:
    assert run("sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL


def test_standard_input_reaches_the_command(run: Run) -> None:
    assert run("cat", input="to be read").stdout == "to be read"


def test_a_signal_reaches_the_command(cluster: Cluster, image: Path) -> None:
    script = "trap 'echo stopped; exit 7' TERM; echo ready; while true; do sleep 0.1; done"
    command = ["pinnace", "run", str(image), "--", "sh", "-c", script]
    with cluster.popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        send_signal(running, signal.SIGTERM)
        assert running.stdout.read() == "stopped\n"
        assert running.wait(30) == 7


def test_the_command_ignores_no_signal_that_its_caller_does_not(cluster: Cluster, run: Run) -> None:
    """Python ignores SIGPIPE and SIGXFSZ; whoever runs the tests may ignore others."""
    outside = cluster.run(["grep", "SigIgn", "/proc/self/status"]).stdout
    assert run("grep", "SigIgn", "/proc/self/status").stdout == outside


def test_a_caller_that_ignores_the_end_of_children_gets_a_container(cluster: Cluster, image: Path) -> None:
    done = cluster.run(["env", "--ignore-signal=CHLD", "pinnace", "run", str(image), "echo", "well"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


def test_libraries_of_the_caller_are_not_the_servers(cluster: Cluster, image: Path) -> None:
    needed = subprocess.run(["ldd", "/usr/bin/squashfuse_ll"], check=True, capture_output=True, text=True)
    libraries = cluster.home() / "libraries"
    libraries.mkdir()
    for line in needed.stdout.splitlines():
        if "fuse" in line:
            (libraries / line.split()[0]).touch()
    done = cluster.run(["pinnace", "run", str(image), "true"], env={"LD_LIBRARY_PATH": str(libraries)})
    assert (done.returncode, done.stderr) == (0, "")


def test_the_umask_is_the_commands_alone(cluster: Cluster, image: Path) -> None:
    done = cluster.run(["sh", "-c", f"umask 077; pinnace run {image} sh -c 'umask; stat -c %a /'"])
    assert done.stdout == "0077\n755\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_descriptors_may_be_closed(cluster: Cluster, image: Path, closed: str) -> None:
    done = cluster.run(["sh", "-c", f"pinnace run {image} sh -c 'exit 7' {closed}"])
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert cluster.run(["sh", "-c", f"pinnace run /no/such.sqsh true {closed}"]).returncode == 125


def test_the_working_directory_may_be_gone(cluster: Cluster, image: Path) -> None:
    script = "mkdir gone && cd gone && rmdir ../gone && exec pinnace run "
    assert cluster.run(["sh", "-c", f"{script} {image} pwd"], check=True).stdout == "/\n"
    assert_fails(cluster.run(["sh", "-c", f"{script} ./a.sqsh true"]), 125, "/gone/./a.sqsh does not exist")


def test_a_user_without_a_home_is_told_what_to_set(cluster: Cluster, image: Path) -> None:
    command = ["env", "-u", "HOME", "setpriv", "--reuid=31999", "--regid=31999", "--clear-groups", "pinnace"]
    done = cluster.run([*command, "run", str(image), "id", "-u"], user=None)
    assert_fails(done, 125, "no home directory", "PINNACE_STORE")
    done = cluster.run(
        [*command, "run", str(image), "id", "-u"], user=None, env={"PINNACE_STORE": "/nowhere"}
    )
    assert done.stdout == "31999\n"


def test_a_terminal_is_passed_on(cluster: Cluster, image: Path) -> None:
    command = f"pinnace run {image} tty"
    assert cluster.run(["script", "-qec", command, "/dev/null"]).stdout.strip().startswith("/dev/pts/")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("ids", IDS)
def test_files_of_the_image_are_the_users_and_can_be_changed(run: Run, overlay: str, ids: str) -> None:
    script = """
        set -e
        test -O /etc/os-release
        echo more >> /etc/os-release
        chmod 600 /etc/os-release
        echo x > /new
        mv /new /newer
        echo y > /newer
        rm /bin/wc
        mkdir /etc/d && rmdir /etc/d
        rm -r /etc && mkdir /etc && test ! -e /etc/os-release
        chown 12:34 /newer
        stat -c '%u %a' /newer
    """
    options = (ids, "--rw")
    done = run("sh", "-c", script, options=options, env={"PINNACE_OVERLAY": overlay}, check=True)
    assert done.stdout == f"{0 if ids == '--root' else ADA.uid} 644\n"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("ids", IDS)
def test_the_root_is_read_only_by_default_and_tmp_is_not(run: Run, overlay: str, ids: str) -> None:
    script = "echo x > /new; echo x > /tmp/new && echo tmp is writable"
    done = run("sh", "-c", script, options=(ids,), env={"PINNACE_OVERLAY": overlay})
    assert done.stdout == "tmp is writable\n"
    assert "Read-only file system" in done.stderr


def test_the_user_is_himself_or_root(run: Run) -> None:
    assert run("id", "-u").stdout == f"{ADA.uid}\n"
    assert run("id", "-un").stdout == "ada\n"
    assert run("id", "-u", options=("--root",)).stdout == "0\n"


def test_no_capability_is_left_and_none_can_be_gained(run: Run) -> None:
    status = run("sh", "-c", "cat /proc/self/status", check=True).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_the_hosts_variables_stay_outside_unless_asked_for(run: Run) -> None:
    done = run("env", options=("-e", "ASKED", "-e", "SET=a b"), env={"SECRET": "1", "ASKED": "2"})
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert "SECRET" not in variables
    assert (variables["ASKED"], variables["SET"]) == ("2", "a b")
    assert variables["HOME"].endswith("/ada") and variables["USER"] == "ada"


def test_host_paths_are_mounted_where_asked(cluster: Cluster, run: Run) -> None:
    (cluster.home() / "data").write_text("mine")
    done = run("cat", "/deep/er/data", options=("--mount", "./data:/deep/er/data"), check=True)
    assert done.stdout == "mine"


def test_a_read_only_mount_cannot_be_written(run: Run) -> None:
    done = run("sh", "-c", "echo x > /m/file", options=("-m", ".:/m:ro"))
    assert "Read-only file system" in done.stderr


def test_the_home_is_there_only_if_asked_for(cluster: Cluster, run: Run) -> None:
    (cluster.home() / "note").write_text("home")
    assert run("cat", str(cluster.home() / "note")).returncode == 1
    assert run("cat", str(cluster.home() / "note"), options=("--home",)).stdout == "home"
    assert run("cat", "/root/note", options=("--home", "--root")).stdout == "home"


def test_the_working_directory_can_be_chosen(run: Run) -> None:
    assert run("pwd", options=("-w", "/etc")).stdout == "/etc\n"


def test_the_plan_can_be_printed_without_being_carried_out(run: Run) -> None:
    import json

    plan = json.loads(run("true", options=("--dry-run",), check=True).stdout)
    assert plan[0] == ["version", "1"] and plan[-1] == ["command", "true"]


def test_an_image_without_a_shell_and_without_etc_runs(run: Run, tree: Path) -> None:
    busybox = (tree / "bin" / "busybox").read_bytes()
    subprocess.run(["rm", "-r", *map(str, tree.iterdir())], check=True)
    (tree / "cat").write_bytes(busybox)
    (tree / "cat").chmod(0o755)
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    assert "ada:x:" in run("/cat", "/etc/passwd", file=file, check=True).stdout


def test_empty_etc_files_are_filled_and_others_are_kept(run: Run, tree: Path) -> None:
    (tree / "etc" / "passwd").write_text("")
    (tree / "etc" / "group").write_text("video:x:44:\n")
    (tree / "etc" / "resolv.conf").write_text("")
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    done = run("cat", "/etc/passwd", "/etc/group", "/etc/hosts", file=file, check=True)
    assert "ada:x:" in done.stdout and "video:x:44:" in done.stdout and "localhost" in done.stdout


def test_links_of_a_hostile_image_do_not_lead_to_the_host(cluster: Cluster, run: Run, tree: Path) -> None:
    victim = cluster.home() / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    for name in ("passwd", "group", "hosts", "machine-id"):
        (tree / "etc" / name).symlink_to("../" * 12 + str(victim)[1:])
    (tree / "etc" / "resolv.conf").symlink_to(victim)
    (tree / "proc").rmdir()
    (tree / "proc").symlink_to("/../../tmp")
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    run("true", file=file, check=True)
    assert victim.read_text() == "untouched"


def test_apt_as_root_is_told_to_stay_root(run: Run, tree: Path) -> None:
    assert run("test", "-e", "/etc/apt", options=("--root",)).returncode == 1
    (tree / "etc/apt/apt.conf.d").mkdir(parents=True)
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    show = ("sh", "-c", "cat /etc/apt/apt.conf.d/*")
    assert run(*show, file=file, options=("--root",)).stdout == 'APT::Sandbox::User "root";\n'
    assert run(*show, file=file).stdout == ""


def test_a_dangling_resolv_conf_is_filled_inside_the_container(run: Run, tree: Path) -> None:
    (tree / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    run("test", "-e", "/run/systemd/resolve/stub-resolv.conf", file=file, check=True)


def test_the_variables_of_a_file_of_unknown_origin_are_its_etc_environment(run: Run, tree: Path) -> None:
    (tree / "etc" / "environment").write_text('MODE="from the image"\nPATH=/bin:/opt\n')
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    assert "MODE=from the image\n" in run("env", file=file, check=True).stdout


@pytest.mark.parametrize(
    ("words", "options", "status", "expected"),
    [
        (("no-such",), (), 127, ("not found in the image: no-such", "check its name")),
        (("/no/such",), (), 127, ("not found in the image: /no/such",)),
        (("/etc/os-release",), (), 126, ("cannot execute /etc/os-release", "execute permission")),
        (("true",), ("-w", "/no/dir"), 125, ("/no/dir", "working directory")),
        (("true",), ("-m", "/no/source:/x"), 125, ("source path does not exist: /no/source",)),
        (("true",), ("-m", "nonsense"), 2, ("invalid mount `nonsense`",)),
        (("true",), ("-m", "/etc:/bin/sh"), 125, ("/etc", "/bin/sh", "directory")),
        (("true",), ("--frobnicate",), 2, ("--frobnicate", "--help")),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    run: Run, words: tuple[str, ...], options: tuple[str, ...], status: int, expected: tuple[str, ...]
) -> None:
    assert_fails(run(*words, options=options), status, *expected)


def test_a_file_that_does_not_exist_is_named(run: Run) -> None:
    assert_fails(run("true", file=Path("/no/such.sqsh")), 125, "/no/such.sqsh", "does not exist")


def test_a_file_that_is_no_squashfs_is_named(run: Run) -> None:
    assert_fails(run("true", file=Path("/etc/passwd")), 125, "/etc/passwd", "not a squashfs")


def test_a_damaged_image_is_told_from_a_broken_machine(cluster: Cluster, run: Run, image: Path) -> None:
    damaged = cluster.directory / "damaged.sqsh"
    content = bytearray(image.read_bytes())
    content[96:] = b"\xff" * (len(content) - 96)  # all but the superblock
    damaged.write_bytes(content)
    assert_fails(run("true", file=damaged), 125, "damaged")


def test_a_file_of_the_image_that_cannot_be_read_is_an_error(run: Run, tree: Path, backend: str) -> None:
    (tree / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n" * 1000)
    file = squash_tree(tree, tree.with_suffix(".sqsh"))
    content = bytearray(file.read_bytes())
    (inodes,) = struct.unpack_from("<Q", content, 64)  # behind the superblock and the files' contents
    content[96:inodes] = b"\xff" * (inodes - 96)
    file.write_bytes(content)
    done = run("true", file=file)
    if backend == "squashfuse":
        assert_fails(done, 125, "cannot read /etc/passwd of the image")
    else:  # which begins by saying how much there is to unpack
        assert done.returncode == 125
        assert f"pinnace: error: {file} is damaged" in done.stderr.splitlines()[-1]


def test_a_missing_fuse_device_is_told_with_its_cure(cluster: Cluster, image: Path) -> None:
    script = f"mount --bind /dev/null /dev/fuse && exec setpriv --reuid={ADA.uid} --regid={ADA.gid} "
    script += f"--clear-groups pinnace run {image} true"
    done = cluster.run(["unshare", "-m", "sh", "-c", script], user=None)
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1


def test_a_killed_command_leaves_nothing(cluster: Cluster, image: Path) -> None:
    command = ["pinnace", "run", str(image), "--", "sh", "-c", "echo ready; sleep 600"]
    with cluster.popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        for pid, words in cluster.node_processes(cluster.login).items():
            if words.endswith("sleep 600"):
                os.kill(pid, signal.SIGKILL)
        send_signal(running, signal.SIGKILL)
        running.wait(30)


def test_twenty_runs_at_once_all_succeed(cluster: Cluster, image: Path) -> None:
    command = ["pinnace", "run", str(image), "cat", "/etc/os-release"]
    running = [cluster.popen(command, stdout=subprocess.PIPE) for _ in range(20)]
    assert [process.communicate(timeout=120)[0] for process in running] == ['PRETTY_NAME="Tiny"\n'] * 20
    assert {process.returncode for process in running} == {0}


def test_doctor_finds_this_machine_well(cluster: Cluster) -> None:
    done = cluster.run(["pinnace", "doctor"])
    assert done.returncode == 0, done.stdout


def test_the_launch_path_imports_no_third_party_package(cluster: Cluster, run: Run, image: Path) -> None:
    run("true", check=True)  # the machine is probed once
    script = (
        "import sys; sys.argv = ['pinnace', 'run', '--dry-run', sys.argv[2], 'true'];"
        "sys.path.insert(0, '%s'); from pinnace.cli import main; main();"
        "print('MODULES', *sorted(m for m in sys.modules if '.' not in m))"
    )
    library = cluster.prefix / "lib" / "pinnace"
    done = cluster.run(["/usr/bin/python3", "-IS", "-c", script % library, "-", str(image)], check=True)
    modules = set(done.stdout.split("MODULES ")[1].split())
    assert modules.isdisjoint(
        {"click", "requests", "rich", "filelock", "zstandard", "urllib3", "subprocess", "tomllib"}
    )

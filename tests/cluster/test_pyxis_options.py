"""What job scripts written for pyxis say, and what they get: one entry for each thing that they rely on.

Wording is compared behind the name of the plugin, which differs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images, oci
from cluster.cluster import Cluster
from cluster.registry import Registry
from cluster.squash import squash

_OPTIONS = """
    image mounts workdir mount-home remap-root entrypoint entrypoint-log writable readonly env unshare
"""
_OPPOSITES = ("mount-home", "remap-root", "entrypoint")


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Path:
    (cluster.home() / "two words").write_text("spaced\n")
    (cluster.home() / "$HOME").write_text("literal\n")
    return squash(images.tiny(), cluster.home() / "tiny.sqsh")


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def _errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What Pinnace says behind its name."""
    return re.findall(r"pinnace: (?:error: )?(.*)", done.stderr)


def test_the_help_has_all_options_in_one_group_in_the_same_words(cluster: Cluster) -> None:
    for command in ("srun", "sbatch", "salloc"):
        text = cluster.run([command, "--help"], check=True).stdout
        group = text[text.index("Options provided by plugins") :]
        for name in _OPTIONS.split():
            assert f"--container-{name}" in group, (command, name)
        for name in _OPPOSITES:
            assert f"--no-container-{name}" in group
        words = " ".join(group.split())
        assert "[pinnace] ask to be remapped to root inside the container." in words
        assert "Supported: net, ipc, uts." in words


@pytest.mark.parametrize("name", ["image", "mounts", "workdir", "env", "unshare"])
def test_a_text_must_not_be_empty(cluster: Cluster, name: str) -> None:
    done = cluster.srun([f"--container-{name}=", "true"])
    assert done.returncode != 0
    assert _errors(done)[0] == f"--container-{name}: argument required"


@pytest.mark.parametrize("name", ["image", "workdir"])
def test_one_text_may_be_given_twice_if_it_is_the_same(cluster: Cluster, image: Path, name: str) -> None:
    value = {"image": str(image), "workdir": "/etc"}[name]
    twice = [f"--container-{name}={value}", f"--container-{name}={value}"]
    assert cluster.srun([f"--container-image={image}", *twice, "true"], timeout=120).returncode == 0
    done = cluster.srun([*twice, f"--container-{name}=/other", "true"])
    assert done.returncode != 0
    assert _errors(done)[0] == f"--container-{name} specified multiple times"


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("container-mount-home", "no-container-mount-home"),
        ("container-remap-root", "no-container-remap-root"),
        ("container-entrypoint", "no-container-entrypoint"),
        ("container-writable", "container-readonly"),
    ],
)
def test_opposites_exclude_each_other_in_either_order(cluster: Cluster, yes: str, no: str) -> None:
    for options in ([f"--{yes}", f"--{no}"], [f"--{no}", f"--{yes}"]):
        done = cluster.srun(["--container-image=a", *options, "true"])
        assert done.returncode != 0
        assert _errors(done)[0] == f"both --{yes} and --{no} were specified"


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--container-mounts=/etc", "--container-mounts"),
        ("--container-workdir=/x", "--container-workdir"),
        ("--container-mount-home", "--[no-]container-mount-home"),
        ("--no-container-mount-home", "--[no-]container-mount-home"),
        ("--container-remap-root", "--[no-]container-remap-root"),
        ("--no-container-entrypoint", "--[no-]container-entrypoint"),
        ("--container-entrypoint-log", "--container-entrypoint-log"),
        ("--container-writable", "--container-writable"),
        ("--container-readonly", "--container-readonly"),
        ("--container-env=A", None),
        ("--container-unshare=net", None),
    ],
)
def test_without_an_image_the_job_runs_on_the_host_and_options_are_ignored(
    cluster: Cluster, option: str, told: str | None
) -> None:
    done = cluster.srun([option, "sh", "-c", "test -e /etc/debian_version && echo host"])
    assert (done.returncode, done.stdout) == (0, "host\n")
    ignored = f"ignoring {told} because neither --container-image nor --container-name is set"
    assert set(_errors(done)) == ({ignored} if told else set())


@pytest.mark.parametrize(
    ("options", "command", "expected"),
    [
        # image
        (["--container-image={image}"], "grep -c Tiny /etc/os-release", "1"),
        (["--container-image=./tiny.sqsh"], "grep -c Tiny /etc/os-release", "1"),
        (["--container-image={tiny}"], "grep -c Tiny /etc/os-release", "1"),
        (["--container-image=docker://{tiny}"], "grep -c Tiny /etc/os-release", "1"),
        # mounts
        (["--container-mounts=/usr/share"], "test -d /usr/share/man && echo same place", "same place"),
        (["--container-mounts=/usr:/a,/usr:/b"], "ls -d /a/bin /b/bin", "/a/bin\n/b/bin"),
        (
            ["--container-mounts=/usr:/a", "--container-mounts=/usr:/b,/usr:/a"],
            "ls -d /*/bin",
            "/a/bin\n/b/bin",
        ),
        (["--container-mounts=./:/a:ro"], "touch /a/x 2>/dev/null || echo refused", "refused"),
        (["--container-mounts=./:/a:rw+rprivate"], "touch /a/x && rm /a/x && echo written", "written"),
        (["--container-mounts=tmpfs:/data"], "touch /data/x && echo written", "written"),
        (
            ["--container-mounts=tmpfs:/data:size=1M"],
            "df -k /data | tail -n1 | grep -o 1024 | head -n1",
            "1024",
        ),
        (["--container-mounts=umount:/tmp"], "touch /tmp/x 2>/dev/null || echo the image", "the image"),
        (["--container-mounts=/etc/passwd:/new/file"], "test -f /new/file && echo file", "file"),
        (["--container-mounts=/usr/share:/../a/../../b"], "ls -d /b/man", "/b/man"),
        (["--container-mounts=./two words:/two words"], "cat '/two words'", "spaced"),
        (["--container-mounts=./$HOME:/literal"], "cat /literal", "literal"),
        # workdir
        ([], "pwd", "/"),
        (["--container-workdir=/etc"], "pwd", "/etc"),
        (["--container-workdir=etc"], "pwd", "/etc"),
        (["--container-workdir=../"], "pwd", "/"),
        # home, root, writing
        (["--container-mount-home"], "test -e ~/tiny.sqsh && echo home", "home"),
        (["--no-container-mount-home"], "test -e ~/tiny.sqsh || echo none", "none"),
        (["--container-remap-root"], "whoami", "root"),
        (["--no-container-remap-root"], "whoami", "ada"),
        (["--container-writable"], "touch /x && echo written", "written"),
        (["--container-readonly"], "touch /x 2>/dev/null || echo refused", "refused"),
        (
            ["--container-writable"],
            "touch /x && chown 5:5 /x && echo no effect, no error",
            "no effect, no error",
        ),
        # entry points (tests/cluster/test_entrypoint.py has what they do)
        (["--no-container-entrypoint"], "echo ${ENTERED-no}", "no"),
        (["--container-image={entry}"], "echo ${ENTERED-no}", "no"),
        (["--container-image={entry}", "--container-entrypoint"], "echo ${ENTERED-no}", "yes"),
        # variables: JOB, BOTH and LANG are the job's, BOTH and PATH the image's
        (["--container-image={entry}"], "echo $JOB $BOTH ${LANG-none} $PATH", "job image none /bin"),
        (["--container-image={entry}", "--container-env=BOTH,LANG"], "echo $BOTH $LANG", "job C.UTF-8"),
        (["--container-image={entry}", "--container-env=EMPTY"], "echo $EMPTY", "image"),
        # namespaces (tests/cluster/test_unshare.py has what they do)
        (["--container-unshare=net,uts"], "grep -c : /proc/net/dev", "1"),
        # PyTorch
        (["--container-image={entry}"], "echo $RANK $LOCAL_RANK", "0 0"),
        ([], "echo ${RANK-none} ${LOCAL_RANK-none}", "none none"),
    ],
)
def test_what_an_option_gives(
    cluster: Cluster,
    image: Path,
    tiny_image: str,
    entry_image: str,
    options: list[str],
    command: str,
    expected: str,
) -> None:
    names = {"image": str(image), "tiny": tiny_image, "entry": entry_image}
    words = [option.format(**names) for option in options]
    if not any(word.startswith("--container-image") for word in words):
        words.append(f"--container-image={image}")
    job = {"JOB": "job", "BOTH": "job", "LANG": "C.UTF-8", "EMPTY": ""}
    done = cluster.srun([*words, "sh", "-c", command], env=job, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


@pytest.fixture(scope="module")
def entry_image(registry: Registry, cluster: Cluster) -> str:
    """An image with an entry point and variables, PyTorch's own among them."""
    layout = cluster.directory / "entry"
    script = b'#!/bin/sh\nexport ENTERED=yes\nexec "$@"\n'
    layers = [*oci.layers(images.tiny()), oci.tar({"entry": script}, executable=["entry"])]
    variables = ["PATH=/bin", "BOTH=image", "EMPTY=image", "PYTORCH_VERSION=2.5"]
    oci.write_layout(layout, layers, {"Env": variables, "Entrypoint": ["/entry"]})
    return registry.push(layout, "entry:1")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--container-image=podman://tiny", "podman"),
        ("--container-mounts=/a::ro", "--container-mounts: invalid format: /a::ro"),
        ("--container-mounts=:/b", "--container-mounts: invalid format: :/b"),
        ("--container-mounts=/a,", "--container-mounts: invalid format: /a,"),
        ("--container-mounts=a:/b", "the source must begin with"),
        ("--container-mounts=/a:b", "the target must begin with"),
        ("--container-mounts=/no/such:/b", "source path does not exist: /no/such"),
        ("--container-mounts=/usr:/b:shiny", "unknown flag shiny"),
        ("--container-workdir=/no/such", "couldn't chdir to /no/such"),
        ("--container-env=A,,B", "--container-env: invalid format: A,,B"),
        ("--container-unshare=net,foo", "--container-unshare: unknown namespace 'foo'"),
        ("--container-unshare=pid", "--container-unshare: unknown namespace 'pid'"),
        ("--container-unshare=net,", "--container-unshare: empty namespace argument"),
    ],
)
def test_what_is_wrong_is_told_once_and_fails_the_step(
    cluster: Cluster, image: Path, option: str, expected: str
) -> None:
    words = [option] if option.startswith("--container-image") else [f"--container-image={image}", option]
    done = cluster.srun(["-n2", *words, "true"], timeout=120)
    assert done.returncode != 0
    (error,) = _errors(done)
    assert expected in error


@pytest.mark.parametrize(
    ("variables", "command", "expected"),
    [
        ({"MOUNTS": "/usr:/a"}, "ls -d /a/bin", "/a/bin"),
        ({"WORKDIR": "/etc"}, "pwd", "/etc"),
        ({"MOUNT_HOME": "y"}, "test -e ~/tiny.sqsh && echo home", "home"),
        ({"MOUNT_HOME": "n"}, "test -e ~/tiny.sqsh || echo none", "none"),
        ({"REMAP_ROOT": "true"}, "whoami", "root"),
        ({"REMAP_ROOT": "false"}, "whoami", "ada"),
        ({"REMAP_ROOT": "TRUE"}, "whoami", "ada"),
        ({"WRITABLE": "yes"}, "touch /x && echo written", "written"),
        ({"READONLY": "no"}, "touch /x && echo written", "written"),
        ({"READONLY": "1", "WRITABLE": "1"}, "touch /x && echo written", "written"),
        ({"ENV": "LANG"}, "echo $LANG", "C.UTF-8"),
        ({"UNSHARE": "net"}, "grep -c : /proc/net/dev", "1"),
        ({"IMAGE": "{entry}", "ENTRYPOINT": "1"}, "echo ${ENTERED-no}", "yes"),
        ({"IMAGE": "{entry}", "ENTRYPOINT": "0"}, "echo ${ENTERED-no}", "no"),
    ],
)
def test_pyxiss_variables_stand_for_options(
    cluster: Cluster,
    image: Path,
    entry_image: str,
    variables: dict[str, str],
    command: str,
    expected: str,
) -> None:
    own = {"IMAGE": str(image)} | variables
    own["IMAGE"] = own["IMAGE"].format(entry=entry_image)
    env = {f"PYXIS_CONTAINER_{name}": value for name, value in own.items()} | {"LANG": "C.UTF-8"}
    done = cluster.srun(["sh", "-c", command], env=env, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_a_pull_is_framed_by_the_words_that_scripts_look_for(cluster: Cluster, registry: Registry) -> None:
    own = oci.tar({"framed": b"not in the store as yet"})
    oci.write_layout(cluster.directory / "framed", [*oci.layers(images.tiny()), own], {"Env": ["PATH=/bin"]})
    registry.push(cluster.directory / "framed", "framed:1")
    options = ["-wn1", "-n3", "--container-image=127.0.0.1:5000#framed:1"]
    first = _errors(cluster.srun([*options, "true"], timeout=120))
    assert first[0] == "importing docker image: 127.0.0.1:5000/framed:1"
    assert first[-1] == "imported docker image: 127.0.0.1:5000/framed:1"
    assert _errors(cluster.srun([*options, "true"], timeout=120)) == []


def test_an_option_wins_over_its_variable(cluster: Cluster, image: Path) -> None:
    env = {"PYXIS_CONTAINER_IMAGE": "no/such", "PYXIS_CONTAINER_WORKDIR": "/no/such"}
    options = [f"--container-image={image}", "--container-workdir=/etc"]
    done = cluster.srun([*options, "pwd"], env=env, timeout=120)
    assert done.stdout == "/etc\n", done.stderr


@pytest.mark.parametrize("suffix", ["MOUNTS", "ENV", "UNSHARE"])
def test_a_variable_is_checked_where_the_user_submits(cluster: Cluster, image: Path, suffix: str) -> None:
    done = cluster.run(
        ["sbatch", f"--container-image={image}", "--wrap=true"], env={f"PYXIS_CONTAINER_{suffix}": "a,,b"}
    )
    assert done.returncode != 0 and _errors(done)

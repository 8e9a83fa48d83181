"""One image under every backend and overlay, as the user and as root: the same tree, whatever carries it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.squash import squash, squash_tree
from cluster.users import ADA

BACKENDS = ("squashfuse", "unpack")
OVERLAYS = ("kernel", "fuse-overlayfs")
IDS = ("--no-root", "--root")

#: Prints what is below a directory: in the container, and in the tree that the image was made of.
LISTING = r"""
import hashlib, json, os, stat, sys
found = {}
def note(path, name):
    status = os.lstat(path)
    entry = [oct(status.st_mode), status.st_uid, int(status.st_mtime)]
    if stat.S_ISLNK(status.st_mode):
        entry.append(os.readlink(path).decode())
    else:
        entry.append({x: os.getxattr(path, x).hex() for x in os.listxattr(path) if x.startswith("user.odd")})
    if stat.S_ISREG(status.st_mode):
        entry += [status.st_size, status.st_nlink]
        if status.st_size:  # the empty ones have odd modes
            with open(path, "rb") as stream:
                entry.append(hashlib.sha256(stream.read()).hexdigest())
    found[name] = entry
for directory, subdirectories, files in os.walk(os.fsencode(sys.argv[1])):
    for name in [b"", *subdirectories, *files]:
        path = os.path.join(directory, name).rstrip(b"/")
        note(path, path[len(sys.argv[1]):].decode("utf-8", "backslashreplace"))
print(json.dumps(found, sort_keys=True))
"""
#: What every image may have done to it by its user, and what that looks like then.
CHANGES = """
    set -e
    cd /odd
    echo more >> plain && cat plain
    chmod 700 private && chmod 640 plain
    mv plain renamed && ln renamed another && rm first && cat second && stat -c '%h %a' renamed
    rm -r deep && mkdir deep && ls deep
    rm dangling && ln -s elsewhere dangling && readlink dangling
    mkdir private/new && rmdir private/new
    chown 12:34 renamed && test -O renamed
"""
CHANGED = "content\nmore\nshared\n2 640\nelsewhere\n"


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


@pytest.fixture(scope="module")
def tree(cluster: Cluster) -> Path:
    """A root file system with what is odd below /odd."""
    base = squash(images.tiny(), cluster.directory / "base.sqsh")
    tree = cluster.directory / "odd-tree"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tree), str(base)], check=True, capture_output=True)
    odd = tree / "odd"
    odd.mkdir()
    for directory in ("usr", "lib", "lib64"):  # for the Python of the host
        (tree / directory).mkdir(exist_ok=True)
    (odd / "plain").write_text("content\n")
    (odd / "empty").touch()
    (odd / "large").write_bytes(os.urandom(300_000) + bytes(1_000_000))
    (odd / "first").write_text("shared\n")
    os.link(odd / "first", odd / "second")
    (odd / "link").symlink_to("plain")
    (odd / "absolute").symlink_to("/odd/plain")
    (odd / "dangling").symlink_to("../../../nowhere")
    (odd / "long").symlink_to("x/" * 1900)
    (odd / "spaces and\nnewline \\ *").write_text("odd")
    Path(os.fsdecode(os.fsencode(odd) + b"/not-utf8-\xff")).touch()
    (odd / ("n" * 255)).touch()
    deep = odd / "deep"
    for number in range(60):
        deep = deep / f"directory-{number}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")
    (odd / "many").mkdir()
    for number in range(500):
        (odd / "many" / f"file-{number}").write_text(str(number))
    os.mkfifo(odd / "fifo")
    for mode in (0o000, 0o111, 0o444, 0o555, 0o755, 0o777):
        (odd / f"mode-{mode:o}").touch()
        (odd / f"mode-{mode:o}").chmod(mode)
    (odd / "private").mkdir(mode=0o500)
    (odd / "sticky").mkdir()
    (odd / "sticky").chmod(0o1777)
    os.setxattr(odd / "plain", "user.odd", b"value\0with\xff")
    os.setxattr(odd / "deep", "user.odd.directory", b"d" * 1000)  # squashfuse cannot read one that is empty
    for directory, subdirectories, files in os.walk(odd, topdown=False):
        for name in [*subdirectories, *files, "."]:
            os.utime(os.path.join(directory, name), (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return tree


@pytest.fixture(scope="module")
def image(cluster: Cluster, tree: Path) -> Path:
    return squash_tree(tree, cluster.directory / "odd.sqsh")


def run(cluster: Cluster, *words: str | Path, overlay: str, **more: Any) -> subprocess.CompletedProcess[str]:
    variables = {"PINNACE_OVERLAY": overlay, **more.pop("env", {})}
    return cluster.run(["pinnace", "run", *map(str, words)], env=variables, **more)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_tree_is_the_images(
    cluster: Cluster, tree: Path, image: Path, backend: str, overlay: str, ids: str
) -> None:
    mounts = "/usr:/usr:ro,/lib:/lib:ro,/lib64:/lib64:ro"
    python = ["/usr/bin/python3", "-IS", "-c", LISTING]
    expected = json.loads(subprocess.check_output([*python, str(tree / "odd")]))
    inside = ["--backend", backend, ids, "-m", mounts, image, "--", *python, "/odd"]
    found = json.loads(run(cluster, *inside, overlay=overlay, check=True).stdout)
    assert set(found) == set(expected) and len(found) > 560
    owner = 0 if ids == "--root" else ADA.uid
    for name, (mode, _, *facts) in expected.items():
        assert found[name] == [mode, owner, *facts], name


@pytest.mark.parametrize("layer", ["memory", "disk", "kept"])
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_tree_can_be_changed(
    cluster: Cluster, image: Path, backend: str, overlay: str, ids: str, layer: str
) -> None:
    scratch = cluster.home() / f"scratch-{backend}-{overlay}{ids}-{layer}"
    scratch.mkdir()
    os.chown(scratch, ADA.uid, ADA.gid)
    options = [
        "--backend",
        backend,
        ids,
        *(["--upper", str(scratch / "upper")] if layer == "kept" else ["--rw"]),
    ]
    env = {"PINNACE_WRITABLE_LAYER": str(scratch)} if layer == "disk" else {}
    run(cluster, "--backend", backend, image, "true", overlay=overlay, check=True)  # it is unpacked once
    done = run(cluster, *options, image, "--", "sh", "-c", CHANGES, overlay=overlay, env=env)
    assert (done.stdout, done.stderr) == (CHANGED, "")
    again = run(cluster, *options, image, "cat", "/odd/another", overlay=overlay, env=env)
    assert again.stdout == ("content\nmore\n" if layer == "kept" else "")
    unchanged = run(cluster, "--backend", backend, image, "cat", "/odd/plain", overlay=overlay)
    assert unchanged.stdout == "content\n"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_read_only_root_refuses_in_the_same_words(
    cluster: Cluster, image: Path, backend: str, overlay: str
) -> None:
    script = "echo x > /odd/new; rm /odd/plain; chmod 700 /odd/plain; mkdir /odd/d; true"
    done = run(cluster, "--backend", backend, image, "--", "sh", "-c", script, overlay=overlay)
    assert done.stderr.count("Read-only file system") == 4


def test_a_node_without_fuse_unpacks(cluster: Cluster, image: Path) -> None:
    done = _without_fuse(cluster, "-v", str(image), "cat", "/odd/plain")
    assert done.stdout == "content\n"
    assert "backend unpack: squashfuse cannot be used: /dev/fuse may not be opened" in done.stderr


def test_a_backend_that_cannot_work_is_told_with_its_cure(cluster: Cluster, image: Path) -> None:
    done = _without_fuse(cluster, "--backend", "squashfuse", str(image), "true")
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1
    for word in ("the backend squashfuse cannot be used", "/dev/fuse", "--backend", "chmod 0666", "unpack"):
        assert word in done.stderr


def _without_fuse(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """``pinnace run`` where the user may not open /dev/fuse."""
    device = cluster.directory / "closed-fuse"
    if not device.exists():
        os.mknod(device, 0o600 | 0o020000, os.makedev(10, 229))
    script = f"mount --bind {device} /dev/fuse && exec setpriv --reuid={ADA.uid} --regid={ADA.gid} "
    script += '--clear-groups pinnace run "$@"'
    home = {"HOME": str(cluster.home())}
    return cluster.run(["unshare", "-m", "sh", "-c", script, "sh", *words], user=None, env=home)


@pytest.mark.parametrize("words", [["srun", "-n1"], ["salloc", "-Q", "srun"]])
def test_a_jobs_backend_is_the_one_that_was_asked_for(
    cluster: Cluster, image: Path, words: list[str]
) -> None:
    asked = [f"--container-image={image}", "--container-backend=unpack"]
    done = cluster.run([words[0], *words[1:], *asked, "cat", "/odd/plain", "/proc/mounts"], timeout=120)
    assert done.stdout.startswith("content\n"), done.stderr
    servers = [line for line in done.stdout.splitlines() if " fuse" in line]
    assert servers == []


def test_a_batch_script_and_a_variable_may_ask_for_one(cluster: Cluster, image: Path) -> None:
    job = cluster.sbatch("cat /odd/plain", [f"--container-image={image}", "--container-backend=unpack"])
    assert cluster.wait_for_job(job) == "COMPLETED"
    assert (cluster.home() / f"slurm-{job}.out").read_text() == "content\n"
    env = {"PINNACE_CONTAINER_BACKEND": "nonsense"}
    done = cluster.srun([f"--container-image={image}", "true"], env=env)
    assert done.returncode != 0 and "unknown backend nonsense" in done.stderr


@pytest.mark.parametrize("command", [["srun", "true"], ["salloc", "true"], ["sbatch", "--wrap=true"]])
def test_an_unknown_backend_is_refused_on_submission(cluster: Cluster, command: list[str]) -> None:
    done = cluster.run([command[0], "--container-image=a", "--container-backend=podman", command[1]])
    assert done.returncode != 0
    assert "unknown backend podman; there are auto, squashfuse and unpack" in done.stderr

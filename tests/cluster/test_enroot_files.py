"""Squashfs files of the form that enroot gives them, by hand and under Slurm; a site's store."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.users import ADA, BEN

#: As `enroot import` writes it, quotes and blank lines included.
_RC = """\
# enroot-provenance: docker://registry-1.docker.io#library/tool:1
# maintainer somebody

mkdir -p "/srv/my dir" 2> /dev/null
cd "/srv/my dir" && unset OLDPWD || exit 1

if [ -s /etc/rc.local ]; then
    . /etc/rc.local
fi

if [ $# -gt 0 ]; then
    exec '/bin/env' 'ENTRY=it'\\''s' "$@"
else
    exec '/bin/env' 'ENTRY=it'\\''s' 'sh' '-c' 'echo default: $ENTRY, $A, $LOCAL, $PWD'
fi
"""
_SAY = "echo $ENTRY, $A, $LOCAL, $PWD"


@pytest.fixture(scope="module")
def tree(cluster: Cluster) -> Path:
    """The tiny image with enroot's files, and files that belong to somebody."""
    layout, tree = images.tiny(), cluster.directory / "enroot"
    tree.mkdir()
    index = (layout / "index.json").read_text().partition("sha256:")[2][:64]
    manifest = (layout / "blobs" / "sha256" / index).read_text()
    layer = manifest.partition('"layers"')[2].partition("sha256:")[2][:64]
    subprocess.run(["tar", "-xf", str(layout / "blobs" / "sha256" / layer), "-C", str(tree)], check=True)
    tree.chmod(0o755)
    (tree / "srv" / "my dir").mkdir(parents=True)
    (tree / "etc" / "rc").write_text(_RC)
    (tree / "etc" / "rc.local").write_text("export LOCAL=local\n")
    (tree / "etc" / "environment").write_text('PATH=/bin\nA="one two"\nENROOT_X=no\n')
    (tree / "etc" / "fstab").write_text(
        "${ENROOT_ROOTFS}/data /data none x-create=dir,bind,rw 0 0\n"
        "/etc /taken none x-create=dir,rbind\n${ENROOT_ROOTFS}/.. /.. none bind\n${ENROOT_ROOTFS}/x\n"
    )
    (tree / "home" / "owner").mkdir(parents=True)
    (tree / "home" / "owner" / "f").write_text("mine\n")
    for path in (tree / "home" / "owner", tree / "home" / "owner" / "f"):
        path.chmod(0o700)
        os.chown(path, 4711, 4711)
    return tree


def squash(tree: Path, target: Path, *options: str) -> Path:
    command = ["mksquashfs", str(tree), str(target), "-noappend", "-quiet", "-no-progress", *options]
    subprocess.run(command, check=True, capture_output=True)
    target.chmod(0o644)
    return target


@pytest.fixture(scope="module")
def file(cluster: Cluster, tree: Path) -> Path:
    """With enroot's own options: lzo, everything root's."""
    return squash(tree, cluster.directory / "enroot.sqsh", "-all-root", "-comp", "lzo", "-noD")


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


def test_the_files_script_is_executed_with_the_command(cluster: Cluster, file: Path) -> None:
    default = cluster.run(["pinnace", "run", str(file)], check=True)
    assert (default.stdout, default.stderr) == ("default: it's, one two, local, /srv/my dir\n", "")
    asked = cluster.run(["pinnace", "run", str(file), "sh", "-c", _SAY], check=True)
    assert asked.stdout == "it's, one two, local, /srv/my dir\n"


def test_a_step_runs_its_own_program_in_the_scripts_directory(cluster: Cluster, file: Path) -> None:
    done = cluster.srun(["-N2", f"--container-image={file}", "sh", "-c", _SAY], timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [", one two, , /srv/my dir"] * 2


def test_its_volumes_can_be_written_and_nothing_of_the_host_is_mounted(cluster: Cluster, file: Path) -> None:
    script = "echo x > /data/f && cat /data/f; test -e /taken || echo none; echo > /etc/f || echo read-only"
    by_hand = cluster.run(["pinnace", "run", str(file), "sh", "-c", script], check=True)
    step = cluster.srun([f"--container-image={file}", "sh", "-c", script], timeout=120)
    assert by_hand.stdout == step.stdout == "x\nnone\nread-only\n", step.stderr


def test_a_working_directory_that_was_asked_for_wins(cluster: Cluster, file: Path) -> None:
    by_hand = cluster.run(["pinnace", "run", "-w", "/tmp", str(file), "pwd"], check=True)
    step = cluster.srun([f"--container-image={file}", "--container-workdir=/tmp", "pwd"], timeout=120)
    assert by_hand.stdout == step.stdout == "/tmp\n"


def test_without_a_shell_a_command_is_executed_as_it_is(cluster: Cluster, tree: Path) -> None:
    (tree / "bin" / "sh").rename(tree / "bin" / "no-sh")
    try:
        bare = squash(tree, cluster.directory / "bare.sqsh", "-all-root")
    finally:
        (tree / "bin" / "no-sh").rename(tree / "bin" / "sh")
    done = cluster.run(["pinnace", "run", str(bare), "pwd"], check=True)
    assert done.stdout == "/srv/my dir\n"
    nothing = cluster.run(["pinnace", "run", str(bare)])
    assert nothing.returncode == 127 and "command not found in the image: /bin/sh" in nothing.stderr


@pytest.mark.parametrize("compressor", ["gzip", "lz4", "xz", "zstd"])
def test_files_of_others_are_the_users_whatever_the_compressor(
    compressor: str, cluster: Cluster, tree: Path
) -> None:
    foreign = squash(tree, cluster.directory / f"{compressor}.sqsh", "-comp", compressor)
    script = "cat /home/owner/f; stat -c %u:%g /home/owner/f /etc/rc | sort -u"
    by_hand = cluster.run(["pinnace", "run", "--rw", str(foreign), "sh", "-c", script], check=True)
    step = cluster.srun([f"--container-image={foreign}", "sh", "-c", script], timeout=120)
    assert by_hand.stdout == step.stdout == f"mine\n{ADA.uid}:{ADA.gid}\n", step.stderr


@pytest.fixture
def site_store(cluster: Cluster, file: Path) -> Iterator[Path]:
    """A store that another user filled, and that everybody may read."""
    root = cluster.home(BEN) / "site"
    environment = {"PINNACE_STORE": str(root)}
    cluster.run(["sh", "-c", f"umask 022 && mkdir {root}"], user=BEN, check=True)
    command = ["sh", "-c", f"umask 022 && pinnace store import -q {file} site/tool:1"]
    cluster.run(command, user=BEN, env=environment, check=True)
    mode = root.parent.stat().st_mode
    root.parent.chmod(0o711)
    yield root
    root.parent.chmod(mode & 0o7777)
    subprocess.run(["rm", "-rf", str(root)], check=True)


def test_an_image_of_a_sites_store_starts_for_its_readers(cluster: Cluster, site_store: Path) -> None:
    environment = {"PINNACE_ADDITIONAL_STORES": str(site_store)}
    done = cluster.srun(
        ["-N2", "--container-image=site/tool:1", "sh", "-c", "echo $A, $PWD"], env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["one two, /srv/my dir"] * 2
    listed = cluster.run(["pinnace", "images"], env=environment, check=True).stdout
    assert "docker.io/site/tool:1" in listed and str(site_store) in listed


def test_a_sites_store_that_anybody_may_write_to_starts_nothing(cluster: Cluster, site_store: Path) -> None:
    site_store.chmod(0o777)
    done = cluster.srun(
        ["--container-image=site/tool:1", "true"],
        env={"PINNACE_ADDITIONAL_STORES": str(site_store), "PINNACE_PULL": "never"},
        timeout=120,
    )
    assert done.returncode != 0 and f"every user may write to {site_store}" in done.stderr
    assert "docker.io/site/tool:1 is not in the store" in done.stderr

"""Images from files under Slurm: no registry is needed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.users import ADA


@pytest.fixture
def archive(cluster: Cluster) -> Iterator[Path]:
    """The tiny image as an archive of `docker save` that the user may read."""
    path = cluster.home() / "tiny.tar"
    command = ["skopeo", "copy", "-q", f"oci:{images.tiny()}", f"docker-archive:{path}:lab/imported:1"]
    subprocess.run(command, check=True)
    os.chown(path, ADA.uid, ADA.gid)
    yield path
    path.unlink()


def test_an_imported_image_runs_on_every_node_without_a_registry(cluster: Cluster, archive: Path) -> None:
    pulled = cluster.run(["pinnace", "pull", str(archive)], user=ADA, check=True).stdout
    assert pulled.startswith("docker.io/lab/imported:1@sha256:")
    digest = pulled.strip().partition("@")[2]
    for image in ("lab/imported:1", pulled.strip()):
        done = cluster.srun(
            ["-N2", f"--container-image={image}", "sh", "-c", "echo $PINNACE_IMAGE_DIGEST"],
            env={"PINNACE_PULL": "never"},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [digest] * 2
    assert cluster.leftovers() == []


def test_a_job_that_may_not_pull_is_told_what_there_is(cluster: Cluster, archive: Path) -> None:
    cluster.run(["pinnace", "pull", str(archive)], user=ADA, check=True)
    done = cluster.srun(
        ["--container-image=lab/imported:2", "true"], env={"PINNACE_PULL": "never"}, timeout=120
    )
    assert done.returncode != 0
    assert "docker.io/lab/imported:2 is not in the store" in done.stderr
    assert "it has docker.io/lab/imported:1" in done.stderr
    assert cluster.leftovers() == []


def test_a_reference_that_sbatch_has_cut_is_recognised(cluster: Cluster) -> None:
    done = cluster.srun(["--container-image=nvcr.io", "true"], timeout=120)
    assert done.returncode != 0 and r"write nvcr.io/IMAGE, or nvcr.io\#IMAGE" in done.stderr

"""Slurm's release and the one that the plugin was built for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.cluster import Cluster
from cluster.requirements import REPOSITORY
from cluster.users import ADA

_HEADERS = Path("/usr/include/slurm")


@pytest.fixture
def old_plugin(tmp_path: Path) -> Path:
    """The plugin as it is when built with the headers of Slurm 20.11.4."""
    headers = tmp_path / "slurm" / "include" / "slurm"
    shutil.copytree(_HEADERS, headers)
    version = headers / "slurm_version.h"
    text, count = re.subn(r"(define SLURM_VERSION_NUMBER) \w+", r"\1 0x140b04", version.read_text())
    assert count == 1
    version.write_text(text)
    plugin = tmp_path / "spank_pinnace.so"
    build = ["make", "--silent", f"SLURM_PREFIX={tmp_path}/slurm", f"OUTPUT={plugin}"]
    subprocess.run(build, cwd=REPOSITORY / "spank", env={"PATH": os.environ["PATH"]}, check=True)
    return plugin


def test_the_plugin_fits_the_slurm_that_it_was_built_with(cluster: Cluster) -> None:
    findings = json.loads(cluster.run(["pinnace", "doctor", "--json"]).stdout)
    (slurm,) = (finding for finding in findings if finding["name"] == "Slurm")
    assert slurm["ok"] and slurm["message"] == "srun knows --container-image"


def test_the_doctor_names_a_plugin_that_was_built_for_another_slurm(
    cluster: Cluster, old_plugin: Path
) -> None:
    installed = cluster.prefix / "lib" / "slurm" / "spank_pinnace.so"
    copy = cluster.directory / "old.so"  # where the host sees it
    shutil.copy(old_plugin, copy)
    script = f"mount --bind {copy} {installed} && exec setpriv --reuid={ADA.uid} --regid={ADA.gid} "
    command = ["unshare", "-m", "sh", "-c", script + "--clear-groups sh -c 'srun true; pinnace doctor'"]
    done = cluster.run(command, user=None, env={"HOME": str(cluster.home())})
    copy.unlink()
    assert done.returncode == 1
    release = cluster.run(["scontrol", "--version"]).stdout.split()[1].rpartition(".")[0]
    assert f"FAILED  Slurm: {installed} was built for Slurm 20.11, which is {release} here\n" in done.stdout
    assert "spank.h" in done.stdout
    assert "Incompatible" in done.stderr, "Slurm says so too"

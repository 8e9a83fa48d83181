"""``make install`` and ``pip install .`` put everything where it belongs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

INSTALLED = """
usr/bin/pinnace
usr/lib/pinnace/pinnace/__init__.py
usr/lib/slurm/spank_pinnace.so
usr/libexec/pinnace/pinnace
usr/libexec/pinnace/pinnace-exec
usr/share/man/man1/pinnace.1
usr/share/man/man1/pinnace-store.1
usr/share/man/man7/srun-container.7
usr/lib/systemd/system/pinnace-gc.service
usr/lib/systemd/system/pinnace-gc.timer
etc/pinnace/pinnace.toml
etc/slurm/plugstack.conf.d/pinnace.conf
etc/apparmor.d/pinnace
etc/cron.d/pinnace
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources, to be built in."""
    target = tmp_path / "repository"
    leave = shutil.ignore_patterns("build", ".git", ".*_cache", "__pycache__", "_libexec", "*.egg-info")
    shutil.copytree(REPOSITORY, target, ignore=leave)
    return target


def test_make_install_fills_a_package(copy: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--silent", "install", f"DESTDIR={package}", "PREFIX=/usr"]
    subprocess.run(command, cwd=copy, check=True, env=environment)
    for name in INSTALLED.split():
        assert (package / name).is_file(), name
    plugstack = (package / "etc/slurm/plugstack.conf.d/pinnace.conf").read_text()
    assert "/usr/lib/slurm/spank_pinnace.so launcher=/usr/bin/pinnace" in plugstack
    for file in package.rglob("*"):
        if file.is_file():
            assert b"@LIBDIR@" not in file.read_bytes(), file
    for name in ("etc/cron.d/pinnace", "usr/lib/systemd/system/pinnace-gc.service"):
        text = (package / name).read_text()
        assert "PATH=/usr/bin:" in text and "@" not in text, name


def test_pip_builds_a_wheel_with_the_executor(copy: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), "."]
    subprocess.run(pip, cwd=copy, check=True)
    (wheel,) = wheels.iterdir()
    assert "linux" in wheel.name  # it holds a program for one kind of machine
    with zipfile.ZipFile(wheel) as archive:
        executor = archive.getinfo("pinnace/_libexec/pinnace-exec")
        assert executor.external_attr >> 16 & 0o111

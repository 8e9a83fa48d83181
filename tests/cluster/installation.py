"""Pinnace as an administrator installs it: ``make install`` with a Python of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.requirements import REPOSITORY, requirements

_PYTHON = "/usr/bin/python3"


def install(prefix: Path) -> Path:
    """Install below ``prefix``, readable by everybody; returns the directory of its etc files.

    The command gets a virtual environment beside it, because the source tree and its own one
    may lie where a job's user may not look.
    """
    environment = prefix / "venv"
    subprocess.run([_PYTHON, "-m", "venv", "--without-pip", str(environment)], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    shutil.copytree(_dependencies(), packages, dirs_exist_ok=True)
    etc = prefix / "etc"
    command = ["make", "--silent", "install", f"PREFIX={prefix}", f"SYSCONFDIR={etc}", "DESTDIR="]
    command.append(f"PYTHON={environment}/bin/python3")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=_plain_environment())
    if done.returncode:
        raise RuntimeError(f"make install failed:\n{done.stdout}{done.stderr}")
    return etc


def _plain_environment() -> dict[str, str]:
    """Ours without what an outer make passes on: its options and variables are not meant for this one."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}


def _dependencies() -> Path:
    """The run-time dependencies of setup.cfg, fetched once for each version of the list."""
    wanted = requirements()
    key = hashlib.sha256(repr((wanted, sys.version)).encode()).hexdigest()[:12]
    directory = REPOSITORY / "build" / f"dependencies-{key}"
    if not directory.exists():
        partial = directory.with_name(f"{directory.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--root-user-action=ignore", "--target", str(partial), *wanted], check=True)
        partial.rename(directory)
    return directory

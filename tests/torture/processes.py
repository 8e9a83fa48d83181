"""Pulls as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pinnace


def start(base: Path, reference: str) -> subprocess.Popen[str]:
    """Begin a pull of ``reference`` into ``base``/store."""
    environment = {
        "HOME": str(base),
        "PATH": os.environ["PATH"],
        "PINNACE_STORE": str(base / "store"),
        "PYTHONPATH": str(Path(pinnace.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = "import sys; from pinnace.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", command, "pull", "-q", reference],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status and output once a pull has ended."""
    out, said = process.communicate()
    return process.returncode, out, said

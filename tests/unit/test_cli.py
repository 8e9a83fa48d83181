"""The command line: what a user sees of mistakes and of closed streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinnace.cli.commands import Pinnace
from pinnace.cli.store import StoreCommands

_LIBRARY = str(Path(__file__).parents[2] / "lib")
_START = f"import sys; sys.path.insert(0, {_LIBRARY!r}); from pinnace.cli import main; sys.exit(main())"


def run(store: Path, *arguments: str, redirect: str = "") -> subprocess.CompletedProcess[str]:
    """Run pinnace by a shell, with ``redirect`` behind the command."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-IS", "-c", _START, *arguments],
        env={"PATH": os.defpath, "HOME": str(store), "PINNACE_STORE": str(store)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "No such command 'frob'; see `pinnace --help`"),
        (["rm"], "Missing argument 'IMAGE...'; see `pinnace rm --help`"),
        (["images", "--frob"], "see `pinnace images --help`"),
        (["run"], "no image is given"),
        (["store", "gc", "--max-age", "soon"], "a time such as 3600, 12h or 30d is expected (--max-age)"),
        (["store", "gc", "--quota", "much"], "a size such as 4096, 512M or 2G is expected (--quota)"),
        (["store", "gc", "--low-water", "80%"], "there is none; give --quota"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(redirect: str, tmp_path: Path) -> None:
    done = run(tmp_path, "images", redirect=redirect)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [*Pinnace.names, *(f"store {name}" for name in StoreCommands.names)])
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, *command.split(), "--help")
    assert done.returncode == 0 and "Example" in done.stdout


def test_a_group_without_a_command_shows_what_there_is(tmp_path: Path) -> None:
    done = run(tmp_path, "store")
    assert (done.returncode, done.stderr) == (0, "") and "pinnace store gc --max-age" in done.stdout

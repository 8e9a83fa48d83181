"""Commands as processes of their own, and what they leave running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pinnace

_COMMAND = "import sys; from pinnace.cli import main; sys.exit(main())"
#: The same, which counts the steps that it takes: calls that change files, take locks or start processes.
#: Before step number ``STEP`` it is killed; it writes how many there were to the file ``STEPS``.
_COUNTING_COMMAND = """
import os, signal, sys
last, seen = int(os.environ["STEP"]), 0
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
steps = {"fcntl.flock", "subprocess.Popen"}
steps |= {f"os.{name}" for name in ("chmod", "link", "mkdir", "remove", "rename", "rmdir", "truncate")}
def look(event, arguments):
    global seen
    if event in steps or event == "open" and arguments[2] & writing:
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
from pinnace.cli import main
status, count = main(), seen
with open(os.environ["STEPS"], "w") as file:
    file.write(str(count))
sys.exit(status)
"""


def python(base: Path, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Begin a script that has the store ``base``/store, in the directory ``base``."""
    environment = {
        "HOME": str(base),
        "PATH": os.environ["PATH"],
        "PINNACE_STORE": str(base / "store"),
        "PYTHONPATH": str(Path(pinnace.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=base,
    )


def command(base: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Begin ``pinnace`` with ``words``."""
    return python(base, _COMMAND, *words, **variables)


def counted(base: Path, *words: str, steps: Path, last: int = 0) -> subprocess.Popen[str]:
    """Begin ``pinnace``, which is killed before its step ``last``, or writes their number to ``steps``."""
    return python(base, _COUNTING_COMMAND, *words, STEP=str(last), STEPS=str(steps))


def start(base: Path, reference: str, **variables: str) -> subprocess.Popen[str]:
    """Begin a pull of ``reference`` into ``base``/store."""
    return command(base, "pull", "-q", reference, **variables)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status and output once a command has ended."""
    out, said = process.communicate()
    return process.returncode, out, said


def survivors(base: Path, *, patience: float = 10) -> list[str]:
    """What still runs of commands begun in ``base`` after ``patience`` seconds.

    The children of one that was killed need a moment to see it.
    """
    end = time.monotonic() + patience
    while (found := _running(base)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _running(directory: Path) -> list[str]:
    """The command lines of the processes that work in a directory, which those that they start do as well."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(directory.resolve()):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            pass  # it has just ended
    return found

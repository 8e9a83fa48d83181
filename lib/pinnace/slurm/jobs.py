"""Which jobs have not ended: asked of pyslurm where it is installed and works, else of Slurm's commands.

Both are programs of their own here: a library of another release than the controller's, or one that
finds no configuration, ends the process that has loaded it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

from pinnace.store.retention import Queue

#: Seconds for an answer; a controller that is down lets its clients wait for longer.
TIMEOUT = 30
#: What Slurm calls a job that holds nothing any more and does not come back as it is (squeue(1)).
_ENDED = frozenset(
    """BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED LAUNCH_FAILED NODE_FAIL OUT_OF_MEMORY
    PREEMPTED RECONFIG_FAIL REVOKED TIMEOUT""".split()  # noqa: SIM905
)
#: Variables that have squeue show something else; with SLURM_CLUSTERS the jobs of one cluster are
#: asked for, and the name of another.
_MISLEADING = ("SQUEUE_", "SLURM_CLUSTERS")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Prints [[job ID, state], ...]. First pyslurm since 22.5.3, then the interface before.
_PYSLURM = """
import json, pyslurm
try:
    jobs = [(job.id, job.state) for job in pyslurm.Jobs.load().values()]
except AttributeError:
    jobs = [(number, job["job_state"]) for number, job in pyslurm.job().get().items()]
print(json.dumps(jobs))
"""


def queue() -> Queue | None:
    """The jobs of this cluster that have not ended. None: nobody here can be asked for them."""
    settings = _settings()
    jobs = _from_pyslurm() if settings else None
    if settings and jobs is None:
        jobs = _from_squeue()
    if jobs is None or "ClusterName" not in settings:
        return None
    # slurm.conf(5), PrivateData: only administrators see the jobs of others.
    private = "jobs" in settings.get("PrivateData", "jobs").split(",")
    return Queue(settings["ClusterName"], frozenset(jobs), os.geteuid() == 0 or not private)


def _settings() -> dict[str, str]:
    """Slurm's configuration, as the controller has it."""
    text = _output(["scontrol", "show", "config"]) or ""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _from_pyslurm() -> list[int] | None:
    try:
        if find_spec("pyslurm") is None:
            return None
    except (ImportError, ValueError):
        return None
    text = _output([sys.executable, "-I", "-c", _PYSLURM])
    try:
        return [int(number) for number, state in json.loads(text or "") if _lasts(str(state))]
    except (ValueError, TypeError):
        return None


def _from_squeue() -> list[int] | None:
    # %A is a number of its own for each task of an array and each part of a heterogeneous job, as in
    # a step's request. All states are asked for: those that are shown by default differ by release.
    text = _output(["squeue", "--local", "--noheader", "--all", "--states=all", "--format=%A %T"])
    if text is None:
        return None
    pairs = [line.strip().partition(" ") for line in text.splitlines()]
    try:
        return [int(number) for number, _, state in pairs if _lasts(state.strip())]
    except ValueError:
        return None  # not what we know how to read


def _lasts(state: str) -> bool:
    """Whether a job in this state may still start steps; COMPLETING and what is unknown may."""
    return state.partition(" ")[0] not in _ENDED


def _output(command: list[str]) -> str | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_MISLEADING)}
    environment["PATH"] = ":".join(filter(None, (os.environ.get("PATH"), _PATH)))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

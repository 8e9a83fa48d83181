"""Time commands, round by round: run by the user whose commands they are, where he is.

Standard input says what to time, as JSON:
    {"rounds": 30, "subjects": {NAME: {"command": […], "environment": {…}, "before": […],
                                       "plan": FILE, "watch": false}}}
``before`` is carried out untimed. ``plan`` is a file whose content the command finds in a sealed
file in memory, its descriptor in place of ``{plan}``. ``watch`` adds up the memory of all
processes the command has, which disturbs it. The answer, as JSON on standard output:
    {NAME: {"seconds": […], "error": "", "peak": 0}}
Standard library alone, as it runs with whichever Python is there.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import subprocess
import sys
import time
from typing import Any

_PLAN = 9  # the descriptor
_SEALS = 0x01 | 0x02 | 0x04 | 0x08
_WATCH_INTERVAL = 0.02


def main() -> None:
    job = json.load(sys.stdin)
    subjects: dict[str, dict[str, Any]] = job["subjects"]
    results: dict[str, dict[str, Any]] = {name: {"seconds": [], "error": "", "peak": 0} for name in subjects}
    # The first round warms caches up and shows what does not work here at all.
    for number in range(-1 if job.get("warm_up", True) else 0, job["rounds"]):
        order = sorted(subjects)
        random.Random(number).shuffle(order)
        for name in order:
            result = results[name]
            if result["error"]:
                continue
            seconds, result["error"], peak = _timed(subjects[name])
            result["peak"] = max(result["peak"], peak)
            if number >= 0:
                result["seconds"].append(seconds)
    json.dump(results, sys.stdout)


def _timed(subject: dict[str, Any]) -> tuple[float, str, int]:
    environment = {**os.environ, **subject.get("environment", {})}
    if subject.get("before"):
        subprocess.run(subject["before"], env=environment, stdout=subprocess.DEVNULL, check=False)
    messages = os.memfd_create("messages")
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
    actions.append((os.POSIX_SPAWN_DUP2, messages, 2))
    plan = -1
    if subject.get("plan"):
        plan = _sealed(subject["plan"])
        actions.append((os.POSIX_SPAWN_DUP2, plan, _PLAN))
    command = [word.replace("{plan}", str(_PLAN)) for word in subject["command"]]
    try:
        begin = time.perf_counter()
        process = os.posix_spawnp(command[0], command, environment, file_actions=actions)
        peak = _watch(process) if subject.get("watch") else 0
        _, status = os.waitpid(process, 0)
        seconds = time.perf_counter() - begin
        error = "" if status == 0 else _error(messages, status)
    except FileNotFoundError:
        return 0.0, "not installed", 0
    finally:
        for descriptor in (messages, null, plan):
            if descriptor >= 0:
                os.close(descriptor)
    return seconds, error, peak


def _sealed(path: str) -> int:
    descriptor = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as stream:
        os.write(descriptor, stream.read())
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _error(messages: int, status: int) -> str:
    """The first line that calls itself an error, or the last one."""
    lines = os.pread(messages, 1 << 16, 0).decode("utf-8", "replace").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    chosen = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    return chosen[0] if chosen else f"exit status {os.waitstatus_to_exitcode(status)}"


def _watch(process: int) -> int:
    """The largest sum of the resident memory of ``process`` and its descendants, until it ends."""
    peak = 0
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        peak = max(peak, _resident(process))
        time.sleep(_WATCH_INTERVAL)
    return peak


def _resident(process: int) -> int:
    try:
        with open(f"/proc/{process}/statm") as stream:
            total = int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/children") as stream:
                total += sum(_resident(int(child)) for child in stream.read().split())
    except OSError:  # it has just ended
        return 0
    return total


if __name__ == "__main__":
    main()

"""Time commands, round by round: run by the user whose commands they are, where he is.

Standard input says what to time, as JSON:
    {"rounds": 30, "subjects": {NAME: {"command": […], "environment": {…}, "before": […],
                                       "plan": FILE, "server": 0, "copies": 1, "watch": false}}}
``before`` is carried out untimed. ``plan`` is a file whose content the command finds in a sealed
file in memory, its descriptor in place of ``{plan}``. ``server`` is a process whose processor time
counts as the command's, since it works for it. Of ``copies`` that are started at once the last one's
end counts. ``watch`` adds up the memory of all processes the command has, which disturbs it. The
answer, as JSON on standard output:
    {NAME: {"seconds": […], "cpu": […], "error": "", "memory": {}}}
with seconds of processor time in ``cpu``, and in ``memory`` the largest sums, bytes, of ``all``
processes, of the ``first`` one by itself, and of all while there were ``several``.
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
    results: dict[str, dict[str, Any]] = {
        name: {"seconds": [], "cpu": [], "error": "", "memory": {}} for name in subjects
    }
    # The first round warms caches up and shows what does not work here at all.
    for number in range(-1 if job.get("warm_up", True) else 0, job["rounds"]):
        order = sorted(subjects)
        random.Random(number).shuffle(order)
        for name in order:
            result = results[name]
            if result["error"]:
                continue
            seconds, cpu, result["error"], memory = _timed(subjects[name])
            result["memory"] = {
                key: max(value, result["memory"].get(key, 0)) for key, value in memory.items()
            }
            if number >= 0:
                result["seconds"].append(seconds)
                result["cpu"].append(cpu)
    json.dump(results, sys.stdout)


def _timed(subject: dict[str, Any]) -> tuple[float, float, str, dict[str, int]]:
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
        served = _cpu(subject.get("server", 0))
        begin = time.perf_counter()
        processes = [
            os.posix_spawnp(command[0], command, environment, file_actions=actions)
            for _ in range(subject.get("copies", 1))
        ]
        memory = watch(processes[0]) if subject.get("watch") else {}
        ends = [os.wait4(process, 0) for process in processes]
        seconds = time.perf_counter() - begin
        cpu = sum(usage.ru_utime + usage.ru_stime for _, _, usage in ends)
        cpu += _cpu(subject.get("server", 0)) - served
        failed = next((status for _, status, _ in ends if status), 0)
        error = _error(messages, failed) if failed else ""
    except FileNotFoundError:
        return 0.0, 0.0, "not installed", {}
    finally:
        for descriptor in (messages, null, plan):
            if descriptor >= 0:
                os.close(descriptor)
    return seconds, cpu, error, memory


def _cpu(process: int) -> float:
    """Seconds of processor time that a process has used; 0 stands for none."""
    if not process:
        return 0.0
    with open(f"/proc/{process}/stat") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def watch(process: int) -> dict[str, int]:
    """The largest sums of the memory of ``process`` and its descendants, until it ends."""
    peaks = {"all": 0, "first": 0, "several": 0}
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        sizes = _memory(process)
        now = {"all": sum(sizes), "first": sizes[0], "several": sum(sizes) if len(sizes) > 1 else 0}
        peaks = {key: max(value, now[key]) for key, value in peaks.items()}
        time.sleep(_WATCH_INTERVAL)
    return peaks


def _memory(process: int) -> list[int]:
    """Bytes of ``process`` and of each of its descendants."""
    sizes = [_size(process)]
    try:
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/children") as stream:
                for child in stream.read().split():
                    sizes += _memory(int(child))
    except OSError:  # it has just ended
        pass
    return sizes


def _size(process: int) -> int:
    """A process's share of the memory that it has; all of it if the kernel does not tell the share.

    It does not of a process that must leave no core dump, as a pull.
    """
    try:
        with open(f"/proc/{process}/smaps_rollup") as stream:
            for line in stream:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    try:
        with open(f"/proc/{process}/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it has just ended
        return 0


if __name__ == "__main__":
    main()

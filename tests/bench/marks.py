"""The phases of a start as its system calls show them."""

from __future__ import annotations

import re

OPTIONS = ("-f", "--seccomp-bpf", "-ttt", "-T", "-e", "trace=execve,unshare,mount,pivot_root,exit_group")

_LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*?)(?: <(\d+\.\d+)>)?$", re.MULTILINE)
#: Phases with what the executor's process does at the end of each, in their order.
_PHASES = (
    ("interpreter, imports, plan", r'begin execve\("[^"]*/pinnace-exec"'),
    ("executor loads, reads the plan", r"begin unshare\(CLONE_NEWUSER"),
    ("holder's namespaces, FUSE mount", r'begin pivot_root\("\.", "host"'),
    ("container's namespaces", r'begin mount\("overlay"'),
    ("FUSE server loads, overlay over it", r'end mount\("overlay"|end <\.\.\. mount'),
    ("mounts, files in /etc", r'begin pivot_root\("\.", "\."'),
    ("environment, restrictions", r"begin execve"),
    ("command found and loaded", r"end .*execve.* = 0$"),
    ("command", r"begin exit_group"),
)


def phases(trace: str) -> dict[str, float]:
    """Seconds by phase, from what ``strace`` wrote with OPTIONS. Phases that don't show are left out."""
    lines = _LINE.findall(trace)
    events = _events([(float(at), text, took) for process, at, text, took in lines if process == lines[0][0]])
    found: dict[str, float] = {}
    before, _ = events[0]
    position = 1
    for name, pattern in _PHASES:
        for index in range(position, len(events)):
            at, text = events[index]
            if re.match(pattern, text):
                found[name] = at - before
                before, position = at, index + 1
                break
    found["end of all processes"] = max(float(at) for _, at, _, _ in lines) - before
    return found


def _events(lines: list[tuple[float, str, str]]) -> list[tuple[float, str]]:
    """Beginnings and ends of one process's calls; a call during which others did something has two lines."""
    events = []
    for at, text, took in lines:
        if text.startswith("<..."):
            events.append((at, f"end {text}"))
            continue
        events.append((at, f"begin {text}"))
        if took:
            events.append((at + float(took), f"end {text}"))
    return events

"""How `make bench` reads the phases of a start from a trace."""

from __future__ import annotations

from bench.marks import phases

TRACE = """\
7 100.000000 execve("/prefix/bin/pinnace", ["pinnace", "run"], 0x7 /* 9 vars */) = 0 <0.001000>
7 100.050000 execve("/prefix/libexec/pinnace-exec", ["pinnace-exec"], 0x7 /* 9 vars */) = 0 <0.001>
7 100.052000 unshare(CLONE_NEWUSER) = 0 <0.000100>
7 100.053000 pivot_root(".", "host") = 0 <0.000000>
7 100.053500 mount("overlay", "/root", "overlay", 0, "lowerdir=/lower") = 0 <0.004000>
9 100.054000 execve("/usr/bin/squashfuse_ll", ["squashfuse_ll"], 0x7 /* 9 vars */) = 0 <0.000500>
7 100.060000 pivot_root(".", ".") = 0 <0.000100>
7 100.061000 execve("/bin/true", ["true"], 0x5 /* 6 vars */) = -1 ENOENT (No such file or directory) <0.0001>
7 100.062000 execve("/usr/bin/true", ["true"], 0x5 /* 6 vars */ <unfinished ...>
7 100.070000 <... execve resumed>) = 0 <0.008000>
7 100.080000 exit_group(0) = ?
9 100.085000 +++ exited with 0 +++
"""


def test_a_trace_is_split_into_phases_that_add_up() -> None:
    found = {name: round(seconds * 1000, 3) for name, seconds in phases(TRACE).items()}
    assert found == {
        "interpreter, imports, plan": 50.0,
        "executor loads, reads the plan": 2.0,
        "holder's namespaces, FUSE mount": 1.0,
        "container's namespaces": 0.5,
        "FUSE server loads, overlay over it": 4.0,
        "mounts, files in /etc": 2.5,
        "environment, restrictions": 1.0,
        "command found and loaded": 9.0,
        "command": 10.0,
        "end of all processes": 5.0,
    }


def test_a_call_that_others_interrupt_ends_on_a_later_line() -> None:
    apart = TRACE.replace('"lowerdir=/lower") = 0 <0.004000>', '"lowerdir=/lower" <unfinished ...>')
    line = "7 100.058500 <... mount resumed>) = 0 <0.005000>\n7 100.060000"
    found = phases(apart.replace("7 100.060000", line))
    assert round(found["FUSE server loads, overlay over it"], 6) == 0.005

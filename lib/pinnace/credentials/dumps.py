"""No core dump of a process that holds secrets.

prctl(PR_SET_DUMPABLE) also keeps the user's other processes from reading its memory (ptrace(2),
"ptrace access mode checking"). Both settings end with the block: they would be inherited, or
would keep a container from its user namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4


@contextmanager
def forbidden() -> Iterator[None]:
    """No core dump is written and no debugger attaches for the duration of the block."""
    import ctypes
    import resource

    prctl = ctypes.CDLL(None).prctl
    dumpable = prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, limits)
        if dumpable == 1:  # 2 is for the kernel alone to set
            prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)

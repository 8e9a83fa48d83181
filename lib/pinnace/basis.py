"""What a start rests on: the files, variables and times by which its plan was decided. On the launch path.

Whoever reads something of the machine while a container is planned notes it here, *before* reading
it, so that a change that comes in between is noticed too. A plan may be used again for as long as
all of this is as it was (docs/protocol.md, "Kept plans"); what cannot be looked at in that way is
an ``obstacle``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from pinnace.tuples import NamedTuple

#: The state of a path at which there is nothing.
ABSENT = "absent"

#: What makes up a path's state. Of some only the first parts matter.
_PARTS = ("st_dev", "st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns")
_ALL, _WITHOUT_CTIME, _IDENTITY, _NOTHING = len(_PARTS), len(_PARTS) - 1, 5, 0

#: Two changes within one tick of the kernel's clock (at most 10 ms) give a file the same times: nothing
#: can be said of one that changed less than this many nanoseconds ago. Some file systems count seconds.
_TICK, _COARSE_TICK = 20_000_000, 2_000_000_000
_SECOND = 1_000_000_000


class Lock(NamedTuple):
    """A file whose shared flock(2) keeps an image, and what has to be there once it is locked.

    ``job`` is the beginning of the path of a job's lease, to which job and cluster are added; empty
    where jobs leave none.
    """

    path: str
    witness: str
    job: str = ""


class Basis:
    """What was looked at for one start. The first look at a thing counts."""

    def __init__(self) -> None:
        #: Path and the state that it has to have: numbers, of which there are as many as matter.
        self.files: dict[str, str] = {}
        #: Name and value; None: it was not set.
        self.variables: dict[str, str | None] = {}
        #: Seconds since 1970 until which all of this may be taken for true.
        self.until = float("inf")
        #: The working directory, if relative paths were read against it.
        self.directory: str | None = None
        #: What the start's lease locks.
        self.lock: Lock | None = None
        #: Why the plan cannot be used again, or empty.
        self.obstacle = ""

    def file(self, path: str) -> None:
        """The content of a file or the names in a directory matter, or that there is nothing."""
        self._note(path, _ALL)

    def image(self, path: str) -> None:
        """The content of an image file matters. Its last use is noted in it, which changes its ctime."""
        self._note(path, _WITHOUT_CTIME)

    def place(self, path: str) -> None:
        """Which directory or device it is matters, and who may do what there."""
        self._note(path, _IDENTITY)

    def existing(self, path: str) -> None:
        """It matters that something is there."""
        self._note(path, _NOTHING)

    def variable(self, name: str, environment: Mapping[str, str]) -> None:
        """The value of a variable matters, or that it is not set."""
        self.variables.setdefault(name, environment.get(name))

    def expires(self, when: float) -> None:
        """Nothing may be taken for true after ``when`` (seconds since 1970)."""
        self.until = min(self.until, when)

    def refuse(self, reason: str) -> None:
        """The plan is for this start alone."""
        self.obstacle = self.obstacle or reason

    def _note(self, path: str, parts: int) -> None:
        path = os.path.abspath(path)
        if path in self.files:
            return
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self.files[path] = ABSENT
            return
        except OSError as error:
            self.refuse(f"cannot look at {path}: {error.strerror}")
            return
        values = [getattr(status, part) for part in _PARTS[:parts]]
        if any(map(_is_fresh, values[6:])):
            self.refuse(f"{path} has just been changed")
        self.files[path] = " ".join(map(str, values))


def _is_fresh(changed: int) -> bool:
    """Whether one more change might leave a file's time as it is."""
    return time.time_ns() - changed < (_COARSE_TICK if changed % _SECOND == 0 else _TICK)

"""Carrying out a plan: this process becomes ``pinnace-exec``."""

from __future__ import annotations

import fcntl
import os
import signal

from pinnace import paths
from pinnace.container.plan import Plan
from pinnace.errors import HostError

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import NoReturn

_SEALS = 0x01 | 0x02 | 0x04 | 0x08  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE (fcntl(2))


def execute(plan: Plan, lease: int | None = None) -> NoReturn:
    """Replace this process by the executor, which inherits ``lease``.

    Raises HostError if it is not installed.
    """
    descriptor = write(plan)
    for inherited in (descriptor, lease):
        if inherited is not None:
            os.set_inheritable(inherited, True)
    # Python ignores these two for itself; a command that does would not end with its reader.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(paths.EXECUTOR, [paths.EXECUTOR, f"--plan={descriptor}"])
    except OSError as error:
        raise not_installed(error) from None


def write(plan: Plan) -> int:
    """A sealed memfd that holds the plan: whoever gets it knows that it cannot change."""
    descriptor = os.memfd_create("pinnace-plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    message = memoryview(plan.encode())
    while message:
        message = message[os.write(descriptor, message) :]
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def not_installed(error: OSError) -> HostError:
    """The error for an executor that cannot be started."""
    return HostError(
        f"cannot execute {paths.EXECUTOR}: {error.strerror}",
        hint="install Pinnace with `make install`, or with pip on a machine that has a C compiler",
        identifier="executor-missing",
    )

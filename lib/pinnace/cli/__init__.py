"""The ``pinnace`` command.

``run`` and ``step`` are on the path of every job: they parse their options with the standard
library and load nothing else. All other commands are click commands, loaded when they are called.
"""

from __future__ import annotations

import os
import signal
import sys

from pinnace.errors import PinnaceError, report, unexpected


def main() -> int:
    """Run the command line and return its exit status."""
    arguments = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # else ignored, as by nohup
            signal.signal(number, _terminate)
    try:
        if arguments[:1] == ["run"]:
            from pinnace.cli import run

            return run.main(arguments[1:])
        if arguments == ["step"]:
            from pinnace.slurm import step

            return step.main()
        from pinnace.supply import load_site_packages

        load_site_packages()
        from pinnace.cli.commands import dispatch

        return dispatch(arguments)
    except PinnaceError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone; nothing may be flushed to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        if os.environ.get("PINNACE_DEBUG"):
            raise
        return fail(unexpected(error))


def fail(error: PinnaceError, exit_code: int | None = None) -> int:
    """Tell the user and return the status to exit with."""
    if sys.stderr is not None:  # None: it is closed
        sys.stderr.write(report(error) + "\n")
    return error.exit_code if exit_code is None else exit_code


def _terminate(number: int, frame: object) -> None:
    """End as if by an exception, so that a pull removes what it has begun."""
    raise SystemExit(128 + number)

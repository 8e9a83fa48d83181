"""``pinnace run``: on the launch path, so without click."""

from __future__ import annotations

import getopt
import os
import sys
from typing import TYPE_CHECKING

from pinnace.errors import ConfigurationError, PinnaceError, UsageError, unexpected

if TYPE_CHECKING:
    from pinnace.config import Settings
    from pinnace.container.options import Options
    from pinnace.progress import Progress
    from pinnace.store.retention import Queue

HELP = """\
Usage: pinnace run [OPTIONS] IMAGE|PATH.sqsh [--] [COMMAND…]

  Run a command in a container as yourself. The exit status is the command's; 125 means that
  the container could not be started, 126 and 127 that the command could not.

Options:
  -e, --env NAME[=VALUE]       set a variable, or pass the caller's on (repeatable)
  -m, --mount SRC:DST[:FLAGS]  mount a path of the host (repeatable); FLAGS such as ro, nosuid,
                               separated by +; tmpfs:DST mounts an empty tmpfs
  -w, --workdir PATH           working directory in the container
  -r, --root / --no-root       appear as root in the container
      --rw / --ro              make the container's root writable, or not
      --home / --no-home       mount the home directory
      --platform OS/ARCH       platform of the image
      --pull POLICY            when to ask its registry: always, if-missing or never
      --timings                tell what each phase of the start has taken
      --dry-run                print the plan as JSON and run nothing
  -h, --help                   show this text

Examples:
  pinnace run debian:12 cat /etc/os-release
  pinnace run --mount $PWD:/data:ro -w /data nvcr.io#nvidia/pytorch:24.09-py3 python train.py
  pinnace run --root --rw ./image.sqsh
"""

_SHORT = "+e:m:w:rh"
_LONG = ["env=", "mount=", "workdir=", "root", "no-root", "rw", "ro", "home", "no-home", "platform="]
_LONG += ["pull=", "timings", "dry-run", "help"]


def main(arguments: list[str]) -> int:
    """Become the command in the container. Returns only for ``--help``, ``--dry-run`` and errors."""
    from pinnace.cli import fail

    try:
        return _run(arguments)
    except UsageError as error:
        return fail(error)
    except PinnaceError as error:
        return fail(error, 125)
    except Exception as error:
        if os.environ.get("PINNACE_DEBUG"):
            raise
        return fail(unexpected(error), 125)


def _run(arguments: list[str]) -> int:
    given, rest = _parse(arguments)
    if any(name in ("-h", "--help") for name, _ in given):
        sys.stdout.write(HELP)
        return 0
    if not rest:
        raise UsageError("no image is given", hint="see `pinnace run --help`")
    command = rest[2:] if rest[1:2] == ["--"] else rest[1:]

    from pinnace import config
    from pinnace.container import build, environment, executor, identity, kept
    from pinnace.container.template import Start, complete
    from pinnace.phases import Phases

    phases = Phases()
    phases.end("python")
    settings = config.load()
    if any(name == "--timings" for name, _ in given):
        settings.set("timings", "true", "--timings")
    phases.end("configuration")
    options = _options(given, rest[0], settings)
    phases.end("image")
    variables = [value for name, value in given if name in ("-e", "--env")]
    requested = environment.requested(variables, os.environ)
    os.environ.pop("PINNACE_PASSWORD", None)  # it was for the pull, not for what runs now
    template = build.run(options, identity.current(settings.basis), build.tools(settings))
    start = Start(options.lease, tuple(command), tuple(requested), os.environ, phases)
    if any(name == "--dry-run" for name, _ in given):
        import json

        json.dump(complete(template, start).as_data(), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    phases.end("plan")
    if settings["plan_cache"]:
        kept.keep(template, kept.of_run(given, rest[0]), settings.basis, options.lease)
        phases.end("keeping the plan")
    executor.execute(complete(template, start), options.lease)


def _parse(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return getopt.getopt(arguments, _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise UsageError(error.msg, hint="see `pinnace run --help`") from None


def _directory() -> str:
    """The working directory, against which relative paths are read."""
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; its name is good enough to say what is not there
        return os.path.join("/", os.environ.get("PWD", ""))


def _jobs() -> Queue | None:
    """The jobs that have not ended; asked for only when a pull has to make room."""
    from pinnace.slurm import jobs

    return jobs.queue()


def _progress() -> Progress:
    """What a user sees of a pull; loaded only for one."""
    from pinnace.progress import for_stream

    return for_stream()


def _options(given: list[tuple[str, str]], image: str, settings: Settings) -> Options:
    from pinnace import resolve
    from pinnace.container import mounts
    from pinnace.container.options import Options

    def flag(positive: tuple[str, ...], negative: str, default: bool) -> bool:
        for name, _ in given:
            if name in positive:
                default = True
            elif name == negative:
                default = False
        return default

    def values(*names: str) -> list[str]:
        return [value for name, value in given if name in names]

    def last(*names: str) -> str | None:
        return (values(*names) or [""])[-1] or None

    for policy in values("--pull"):
        try:
            settings.set("pull", policy, "--pull")
        except ConfigurationError as error:
            raise UsageError(str(error)) from None
    directory = _directory()
    asked = [mount for text in values("-m", "--mount") for mount in mounts.parse(text, directory)]
    mounts.check_sources(asked, settings.basis)
    if any(map(mounts.are_relative, values("-m", "--mount"))):
        settings.basis.directory = directory
    found = resolve.find(
        image,
        settings=settings,
        directory=directory,
        platform=last("--platform"),
        progress=_progress,
        jobs=_jobs,
    )
    return Options(
        image=found.path,
        config=found.config,
        digest=found.digest,
        lease=found.lease,
        foreign_ids=found.foreign_ids,
        mounts=tuple(asked),
        workdir=last("-w", "--workdir"),
        remap_root=flag(("-r", "--root"), "--no-root", settings["remap_root"]),
        mount_home=flag(("--home",), "--no-home", settings["mount_home"]),
        writable=flag(("--rw",), "--ro", settings["writable"]),
        timings=settings["timings"],
    )

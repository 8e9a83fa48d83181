"""``pinnace run``: on the launch path, so without click."""

from __future__ import annotations

import getopt
import os
import sys

from pinnace.errors import ConfigurationError, PinnaceError, UsageError, unexpected

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
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
      --upper DIR              keep what is written in DIR, for later runs with it (implies --rw)
      --backend NAME           what mounts the image: squashfuse, unpack or auto
      --platform OS/ARCH       platform of the image
      --pull POLICY            when to ask its registry: always, if-missing or never
      --timings                tell what each phase of the start has taken
      --dry-run                print the plan as JSON and run nothing
  -v, --verbose                say what the container is made with, and why
  -h, --help                   show this text

Examples:
  pinnace run debian:12 cat /etc/os-release
  pinnace run --mount $PWD:/data:ro -w /data nvcr.io#nvidia/pytorch:24.09-py3 python train.py
  pinnace run --root --rw ./image.sqsh
"""

_SHORT = "+e:m:w:rhv"
_LONG = ["env=", "mount=", "workdir=", "root", "no-root", "rw", "ro", "home", "no-home", "platform="]
_LONG += ["upper=", "backend=", "pull=", "timings", "dry-run", "verbose", "help"]

_Given = list[tuple[str, str]]


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
    _set(given, settings)
    phases.end("configuration")
    writable = _flag(given, ("--rw", "--upper"), "--ro", settings["writable"])
    choice = build.choose(settings, writable=writable, upper=_upper(given, settings))
    options = _options(given, rest[0], settings, writable=writable, unpack=choice.tools.backend.unpacked)
    phases.end("image")
    requested = environment.requested(_values(given, "-e", "--env"), os.environ)
    os.environ.pop("PINNACE_PASSWORD", None)  # it was for the pull, not for what runs now
    template = build.run(options, identity.current(settings.basis), choice.tools)
    start = Start(options.lease, tuple(command), tuple(requested), os.environ, phases)
    if any(name == "--dry-run" for name, _ in given):
        import json

        json.dump(complete(template, start).as_data(), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    phases.end("plan")
    if any(name in ("-v", "--verbose") for name, _ in given):
        sys.stderr.writelines(f"pinnace: {line}\n" for line in choice.explain())
    else:
        kept.offer(template, kept.of_run(given, rest[0]), settings, options.lease, phases)
    executor.execute(complete(template, start), options.lease)


def _parse(arguments: list[str]) -> tuple[_Given, list[str]]:
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


def _values(given: _Given, *names: str) -> list[str]:
    return [value for name, value in given if name in names]


def _last(given: _Given, *names: str) -> str | None:
    return (_values(given, *names) or [""])[-1] or None


def _flag(given: _Given, positive: tuple[str, ...], negative: str, default: bool) -> bool:
    for name, _ in given:
        if name in positive:
            default = True
        elif name == negative:
            default = False
    return default


def _set(given: _Given, settings: Settings) -> None:
    """Options that stand for settings."""
    if any(name == "--timings" for name, _ in given):
        settings.set("timings", "true", "--timings")
    for option, setting in (("--pull", "pull"), ("--backend", "backend")):
        for value in _values(given, option):
            try:
                settings.set(setting, value, option)
            except ConfigurationError as error:
                raise UsageError(str(error)) from None


def _upper(given: _Given, settings: Settings) -> str:
    """The directory that keeps what is written, or an empty string."""
    if "" in _values(given, "--upper"):
        raise UsageError("--upper needs a directory", hint="is the variable set that names it?")
    upper = _last(given, "--upper")
    if upper is None:
        return ""
    if not os.path.isabs(upper):
        settings.basis.directory = _directory()
    return os.path.normpath(os.path.join(_directory(), upper))


def _options(given: _Given, image: str, settings: Settings, *, writable: bool, unpack: bool) -> Options:
    from pinnace import resolve
    from pinnace.container import configured, mounts
    from pinnace.container.options import Options

    directory = _directory()
    always = configured.load(settings)
    mounted = _values(given, "-m", "--mount")
    asked = [mount for text in mounted for mount in mounts.parse(text, directory)]
    mounts.check_sources(asked, settings.basis)
    if any(map(mounts.are_relative, mounted)):
        settings.basis.directory = directory
    found = resolve.find(
        image,
        settings=settings,
        directory=directory,
        platform=_last(given, "--platform"),
        progress=_progress,
        jobs=_jobs,
        unpack=unpack,
    )
    return Options(
        image=found.path,
        config=found.config,
        digest=found.digest,
        tree=found.tree,
        lease=found.lease,
        foreign_ids=found.foreign_ids,
        configured=always,
        mounts=tuple(asked),
        workdir=_last(given, "-w", "--workdir"),
        remap_root=_flag(given, ("-r", "--root"), "--no-root", settings["remap_root"]),
        mount_home=_flag(given, ("--home",), "--no-home", settings["mount_home"]),
        writable=writable,
        timings=settings["timings"],
    )

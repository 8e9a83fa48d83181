"""``pinnace step``: make the container of a step on this node. Started by the Slurm plugin alone.

The plugin gives a request on descriptor 0 and a socket for the answer on descriptor 3
(docs/protocol.md). What is printed reaches the user's terminal through the task's standard
error. This module is on the launch path: standard library alone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping

from pinnace import fields
from pinnace.errors import PinnaceError, UsageError, report, unexpected
from pinnace.slurm.request import Request, parse

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import NoReturn

    from pinnace.config import Settings
    from pinnace.container.options import Options
    from pinnace.progress import Progress
    from pinnace.store.retention import Queue

REQUEST = 0
ANSWER = 3
LIFELINE = 4

#: The number of a job's batch script among its steps (SLURM_BATCH_SCRIPT). It starts once.
_BATCH = 0xFFFFFFFB

#: Variables of the job that configure Pinnace and its connections to registries. Everything else
#: of the job stays data: nothing in it can change what the launcher executes or imports.
_PREFIXES = ("PINNACE_", "XDG_", "SSL_CERT_")
_NAMES = frozenset(("http_proxy", "https_proxy", "all_proxy", "no_proxy"))
#: Where credential helpers are looked for, whatever the job's PATH is.
_HELPERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Slurm records the environment of jobs: no place for a password, so it is not taken from there.
_REFUSED = frozenset(("PINNACE_PASSWORD",))


def main() -> int:
    """Become the executor that makes the container. Returns only if that fails: the exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _make()
    except PinnaceError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if os.environ.get("PINNACE_DEBUG"):
            raise
        return _fail(unexpected(error))


def configuration(job: Mapping[str, str]) -> dict[str, str]:
    """The variables of the job's environment that the launcher takes as its own."""
    return {
        name: value
        for name, value in job.items()
        if (name.startswith(_PREFIXES) or name.lower() in _NAMES) and name not in _REFUSED
    }


def for_credentials(job: Mapping[str, str]) -> dict[str, str]:
    """The variables by which the user's credentials are found; helpers are those of the system.

    All of the job's, since enroot's file may name any of them.
    """
    return {name: value for name, value in job.items() if name not in _REFUSED} | {"PATH": _HELPERS}


def _make() -> NoReturn:
    message = _read(REQUEST)
    request = parse(message)
    os.environ.update(configuration(request.environment))
    _enter(request.directory)

    from pinnace import config
    from pinnace.container import build, executor, identity, kept
    from pinnace.container.template import Start, complete
    from pinnace.phases import Phases

    phases = Phases()
    phases.end("python")
    settings = config.load()
    settings.environment = for_credentials(request.environment)
    phases.end("configuration")
    if request.backend is not None:
        settings.set("backend", request.backend, "--container-backend")
    writable = bool(settings["writable"]) if request.writable is None else request.writable
    tools = build.choose(settings, writable=writable).tools
    options = _options(request, settings, writable=writable, unpack=tools.backend.unpacked)
    phases.end("image")
    user = identity.current(settings.basis)
    template = build.step(options, user, tools, ANSWER, LIFELINE)
    phases.end("plan")
    if request.step_id != _BATCH:
        kept.offer(template, kept.of_step(fields.decode(message)), settings, options.lease, phases)
    start = Start(options.lease, host=request.environment, phases=phases)
    executor.execute(complete(template, start), options.lease)


def _read(descriptor: int) -> bytes:
    """The whole request, which is a file in memory."""
    try:
        size = os.fstat(descriptor).st_size
        if os.isatty(descriptor) or not 0 < size <= fields.MAX_MESSAGE:
            raise _not_for_people()
        return os.pread(descriptor, size, 0)
    except OSError:
        raise _not_for_people() from None


def _enter(directory: str) -> None:
    """Be where the job is. slurmstepd has been there, so a failure is for later, if it matters."""
    try:
        os.chdir(directory)
    except OSError:
        pass


def _options(request: Request, settings: Settings, *, writable: bool, unpack: bool) -> Options:
    from pinnace import resolve
    from pinnace.container import configured, mounts
    from pinnace.container.options import Options
    from pinnace.store.leases import job_name

    # What is wrong with the options is told before an image is pulled for them.
    always = configured.load(settings)
    asked = [mount for text in request.mounts for mount in mounts.parse(text, request.directory)]
    mounts.check_sources(asked, settings.basis)
    if any(map(mounts.are_relative, request.mounts)):
        settings.basis.directory = request.directory
    found = resolve.find(
        request.image,
        settings=settings,
        directory=request.directory,
        progress=_progress,
        job=job_name(request.job_id, request.environment.get("SLURM_CLUSTER_NAME", "")),
        jobs=_jobs,
        unpack=unpack,
    )

    def either(choice: bool | None, name: str) -> bool:
        return bool(settings[name]) if choice is None else choice

    entrypoint = either(request.entrypoint, "entrypoint")
    preserved = _values(request.preserved, request.environment) if entrypoint else ()
    if preserved:
        settings.basis.refuse("variables of the job go to the entry point")

    return Options(
        image=found.path,
        config=found.config,
        digest=found.digest,
        tree=found.tree,
        lease=found.lease,
        foreign_ids=found.foreign_ids,
        configured=always,
        mounts=tuple(asked),
        workdir=request.workdir,
        remap_root=either(request.remap_root, "remap_root"),
        mount_home=either(request.mount_home, "mount_home"),
        writable=writable,
        entrypoint=entrypoint,
        entrypoint_log=bool(request.entrypoint_log),
        preserved=preserved,
        unshare=tuple(request.unshare),
        timings=settings["timings"],
    )


def _values(names: Iterable[str], job: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables of the job that have these names; an empty one counts as none, as with pyxis."""
    return tuple((name, job[name]) for name in names if job.get(name))


def _jobs() -> Queue | None:
    """The jobs that have not ended; asked for only when a pull has to make room."""
    from pinnace.slurm import jobs

    return jobs.queue()


def _progress() -> Progress:
    """Lines for the user's terminal; loaded only for a pull."""
    from pinnace.progress import PlainProgress

    return PlainProgress()


def _terminate(number: int, frame: object) -> NoReturn:
    """End as if by an exception, so that a pull removes what it has begun."""
    raise SystemExit(128 + number)


def _fail(error: PinnaceError) -> int:
    sys.stderr.write(report(error) + "\n")
    return 1


def _not_for_people() -> UsageError:
    return UsageError("`pinnace step` is started by the Slurm plugin", hint="use srun --container-image")

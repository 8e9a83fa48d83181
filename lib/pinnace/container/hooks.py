"""``hooks.d/*.sh``: programs of a site that are executed while a container is made, as enroot does.

``add`` plans them, on the launch path. ``main`` is what the executor runs afterwards, should hooks have
appended to their files: it prints the operations that do what they say.
"""

from __future__ import annotations

import os
import sys

from pinnace.container.configured import Configured
from pinnace.container.plan import Plan
from pinnace.errors import PinnaceError

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What hooks of enroot's find their library and each other by.
_PLACES = ("ENROOT_LIBRARY_PATH=/usr/lib/enroot", "ENROOT_SYSCONF_PATH=/etc/enroot")
#: What is not passed on: the home is mounted already, a password was for the pull, bash would read a file.
_OWN = ("ENROOT_MOUNT_HOME", "PINNACE_PASSWORD", "BASH_ENV")
#: Nor what is one task's own, or changes programs of the host.
_TASKS = (
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "PMIX_RANK", "PMI_FD", "PMI_RANK"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_TASK_PID"),
)


def add(plan: Plan, configured: Configured, *, remap_root: bool, writable: bool, step: bool) -> None:
    """Execute the hooks at this place of a plan, and mount what they ask for."""
    own = [*_PLACES, *_OWN]
    for name, value in (("ENROOT_REMAP_ROOT", remap_root), ("ENROOT_ROOTFS_WRITABLE", writable)):
        own.append(f"{name}=y" if value else name)
    plan.add("hooks-begin", *own, *((_PATH, *_TASKS, "") if step else ()))
    for program in configured.hooks:
        plan.add("hook", program)
    library = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.insert(0, {library!r}); from pinnace.container import hooks; hooks.main()"
    plan.add("hooks-end", sys.executable, "-IS", "-c", code, "0")


def main() -> None:
    """Print what the files of hooks mean, as operations, or an ``error``."""
    plan = Plan()
    try:
        _results(plan, int(sys.argv[1]))
    except (PinnaceError, OSError) as error:
        plan = Plan()
        plan.add("error", str(error))
    sys.stdout.buffer.write(plan.encode())


def _results(plan: Plan, known: int) -> None:
    """``known``: bytes of the file of variables that are not the hooks'."""
    from pinnace.container import environ, fstab, mounts

    text = _read("ENROOT_MOUNTS", 0).replace(os.environ["ENROOT_ROOTFS"], fstab.ROOT)
    # No variable is replaced here: what hooks write is what they mean.
    entries = fstab.parse(text, "what a hook appended to ENROOT_MOUNTS")
    mounts.add(plan, [entry.mount._replace(variables=False) for entry in entries])
    for name, value in environ.parse(
        _read("ENROOT_ENVIRON", known), "what a hook appended to ENROOT_ENVIRON"
    ):
        plan.add("environment", f"{name}={value}")


def _read(variable: str, known: int) -> str:
    with open(os.environ[variable], "rb") as stream:
        stream.seek(known)
        return stream.read().decode("utf-8", "surrogateescape")

"""What this machine can do, asked once per boot and user."""

from __future__ import annotations

import os

from pinnace import paths
from pinnace.container import executor, rootfs
from pinnace.container.plan import Plan
from pinnace.errors import PinnaceError


def kernel_overlay(tools: rootfs.Tools, store: str) -> bool:
    """Whether the kernel lays a writable overlay for this user. A yes is kept until the next boot.

    A no is not: what stood in the way (a limit on namespaces, a policy) may be gone the next time.
    """
    record = os.path.join(store, "probes", f"kernel-overlay-{boot_id()}")
    if os.path.exists(record):
        return True
    answer = failure_of(rootfs.overlay_probe(tools)) == ""
    if answer:
        _remember(record)
    return answer


def failure_of(plan: Plan) -> str:
    """Carry ``plan`` out in a child: what it said when it failed, or an empty string."""
    import subprocess

    descriptor = executor.write(plan)
    try:
        done = subprocess.run(
            [paths.EXECUTOR, f"--plan={descriptor}"],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise executor.not_installed(error) from None
    finally:
        os.close(descriptor)
    if done.returncode == 0:
        return ""
    return done.stderr.strip() or f"pinnace-exec ended with status {done.returncode}"


def boot_id() -> str:
    """What tells this boot of this machine from all others. Raises PinnaceError."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError as error:
        raise PinnaceError(f"cannot read the boot id: {error.strerror}") from None


def _remember(record: str) -> None:
    """Best effort: a machine on which this fails asks again."""
    try:
        # The store may not be there yet: it is its owner's alone, see Store.make.
        for directory in (os.path.dirname(os.path.dirname(record)), os.path.dirname(record)):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(record, "w"):
            pass
    except OSError:
        pass

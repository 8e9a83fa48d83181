"""What this machine can do, asked once per boot and user."""

from __future__ import annotations

import os

from pinnace import paths
from pinnace.container import executor, rootfs
from pinnace.container.backends import Machine
from pinnace.container.overlay import Layer
from pinnace.container.plan import Plan
from pinnace.errors import PinnaceError


def machine(store: str) -> Machine:
    """This machine as ``backends.choose`` asks it. A yes is kept in ``store`` until the next boot.

    A no is not: what stood in the way (a limit on namespaces, a policy) may be gone the next time.
    """
    return Machine(
        fuse=lambda program: _once("fuse", rootfs.fuse_probe(program), store),
        overlay=lambda layer: _kernel_overlay(layer, store),
    )


def _kernel_overlay(layer: Layer, store: str) -> str:
    """What keeps the kernel from laying a writable overlay for this user, with that kind of layer."""
    if not layer.directory:
        return _once("kernel-overlay", rootfs.overlay_probe(Layer()), store)
    directory = layer.directory
    if layer.persistent and not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    try:
        device = os.stat(directory).st_dev
    except OSError:
        return ""  # the executor says it better
    return _once(f"kernel-overlay-{device:x}", rootfs.overlay_probe(Layer(directory=directory)), store)


def _once(name: str, plan: Plan, store: str) -> str:
    """What ``plan`` fails with; an empty string, which is remembered, if it does not."""
    record = os.path.join(store, "probes", f"{name}-{boot_id()}")
    if os.path.exists(record):
        return ""
    failure = failure_of(plan)
    if not failure:
        _remember(record)
    return failure


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
    said = done.stderr.strip().removeprefix("pinnace: error: ")
    return said or f"pinnace-exec ended with status {done.returncode}"


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

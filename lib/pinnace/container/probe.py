"""What this machine can do, asked once per boot and user."""

from __future__ import annotations

import os

from pinnace import paths
from pinnace.container import executor, rootfs
from pinnace.container.plan import Plan
from pinnace.errors import PinnaceError


def kernel_overlay(tools: rootfs.Tools, store: str) -> bool:
    """Whether the kernel lays a writable overlay for this user. The answer is kept until the next boot."""
    record = os.path.join(store, "probes", f"kernel-overlay-{_boot_id()}")
    try:
        with open(record, encoding="ascii") as stream:
            return stream.read() == "yes"
    except OSError:
        pass
    answer = _succeeds(rootfs.overlay_probe(tools))
    _remember(record, "yes" if answer else "no")
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


def _succeeds(plan: Plan) -> bool:
    return failure_of(plan) == ""


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError as error:
        raise PinnaceError(f"cannot read the boot id: {error.strerror}") from None


def _remember(record: str, answer: str) -> None:
    """Best effort: a machine on which this fails asks again."""
    temporary = f"{record}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(record), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="ascii") as stream:
            stream.write(answer)
        os.replace(temporary, record)
    except OSError:
        pass

"""Is this machine able to run containers, and if not, what mends it?"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pinnace import paths
from pinnace.config import Settings
from pinnace.container import backends, probe, rootfs
from pinnace.container.overlay import Layer
from pinnace.container.plan import VERSION, Plan
from pinnace.errors import PinnaceError
from pinnace.store import stack

#: openat2 5.6, overlayfs in user namespaces 5.11, mount_setattr 5.12
MINIMUM_KERNEL = (5, 12)


@dataclass(frozen=True)
class Finding:
    """The result of one check, and what to do if it is not well."""

    name: str
    ok: bool
    message: str
    hint: str = ""
    #: A check that fails without being required says what is missed.
    required: bool = True


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, from the kernel upwards."""
    checks: tuple[Callable[[], Finding], ...] = (
        _kernel,
        _executor,
        _user_namespaces,
        lambda: _squashfuse(settings),
        lambda: _backend(settings),
        lambda: _overlay(settings),
        lambda: _program("tar2sqfs", "converts layers", "squashfs-tools-ng"),
        _modules,
        lambda: _store(settings["store"]),
        *(partial(_additional_store, root) for root in settings["additional_stores"]),
        *(partial(_node_store, place) for place in [settings["node_store"]] if place),
        _slurm,
    )
    for check in checks:
        try:
            yield check()
        except PinnaceError as error:
            yield Finding(error.identifier, False, error.message, error.hint or "")


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers >= MINIMUM_KERNEL:
        return Finding("kernel", True, f"Linux {release}")
    needed = ".".join(map(str, MINIMUM_KERNEL))
    return Finding("kernel", False, f"Linux {release}", f"a kernel of at least {needed} is needed")


def _executor() -> Finding:
    if os.access(paths.EXECUTOR, os.X_OK):
        return Finding("executor", True, paths.EXECUTOR)
    missing = f"{paths.EXECUTOR} is missing or not executable"
    return Finding("executor", False, missing, "install Pinnace with `make install`")


def _user_namespaces() -> Finding:
    plan = Plan()
    plan.add("version", VERSION)
    plan.add("user-namespace", 0, 0)
    plan.add("user-namespace", os.geteuid(), os.getegid())
    plan.add("mount-namespace")
    failure = probe.failure_of(plan)
    if not failure:
        return Finding("user namespaces", True, "two nested ones can be made")
    return Finding("user namespaces", False, failure, _user_namespace_hint())


def _user_namespace_hint() -> str:
    if _number("/proc/sys/user/max_user_namespaces") == 0:
        return "sysctl user.max_user_namespaces=10000 (as root, and in /etc/sysctl.d)"
    if _number("/proc/sys/kernel/unprivileged_userns_clone") == 0:
        return "sysctl kernel.unprivileged_userns_clone=1 (as root, and in /etc/sysctl.d)"
    if _number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1:
        return "install etc/apparmor.d/pinnace to /etc/apparmor.d and run `apparmor_parser -r` on it"
    return "a container, a seccomp filter or a security module around this process forbids them"


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def _squashfuse(settings: Settings) -> Finding:
    program = backends.squashfuse(settings)
    obstacle = backends.squashfuse_obstacle(program, settings, probe.machine(settings["store"]))
    if obstacle is None:
        return Finding("squashfuse", True, f"{program} and {backends.FUSE} can be used")
    needed = settings["backend"] == "squashfuse"
    return Finding("squashfuse", False, obstacle.reason, obstacle.cure, required=needed)


def _backend(settings: Settings) -> Finding:
    choice = backends.choose(settings, Layer(), probe.machine(settings["store"]))
    return Finding("backend", True, f"{choice.tools.backend.name}: {choice.backend_reason}")


def _program(name: str, purpose: str, package: str) -> Finding:
    path = shutil.which(name, path=backends.SYSTEM_PATH)
    if path:
        return Finding(name, True, f"{path} {purpose}")
    return Finding(name, False, "is not installed", f"it {purpose}: install the package {package}")


def _overlay(settings: Settings) -> Finding:
    failure = probe.failure_of(rootfs.overlay_probe(Layer()))
    if not failure:
        return Finding("overlay", True, "the kernel lays writable overlays for users")
    fallback = shutil.which(settings["fuse_overlayfs"] or "fuse-overlayfs", path=backends.SYSTEM_PATH)
    if fallback:
        return Finding("overlay", True, f"{fallback} is used: the kernel refuses ({failure})")
    return Finding("overlay", False, failure, "install the package fuse-overlayfs")


def _modules() -> Finding:
    names = ("click", "requests", "rich", "zstandard")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("Python", True, f"{platform.python_version()} with all that pulling images needs")
    packages = " ".join(f"python3-{name}" for name in missing)
    return Finding("Python", False, f"{', '.join(missing)} cannot be imported", f"install {packages}")


def _store(store: str) -> Finding:
    place = store
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("store", False, f"{store} cannot be written", "set `store` to a directory of yours")
    free = shutil.disk_usage(place).free
    return Finding("store", True, f"{store}, {free / (1 << 30):.1f} GiB free")


def _additional_store(root: str) -> Finding:
    problem = stack.unusable(root)
    if problem is None:
        return Finding("additional store", True, root)
    hint = "mend it, or take it out of additional_stores"
    return Finding("additional store", False, f"{root} is not used: {problem}", hint, required=False)


def _node_store(place: str) -> Finding:
    if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
        free = shutil.disk_usage(place).free
        return Finding("node store", True, f"{place}, {free / (1 << 30):.1f} GiB free")
    message = f"images are not copied: {place} is missing, or you cannot write to it"
    return Finding("node store", False, message, f"mkdir -m 1777 {place} (as root)", required=False)


def _slurm() -> Finding:
    if shutil.which("srun") is None:
        return Finding("Slurm", False, "srun is not on the PATH", "needed for jobs only", required=False)
    built, running = _plugin_release(), _slurm_release()
    if built and running and built != running:
        message = f"{paths.PLUGIN} was built for Slurm {built}, which is {running} here"
        hint = (
            "Slurm refuses it: install Pinnace anew on a machine with this Slurm's spank.h, see docs/admin.md"
        )
        return Finding("Slurm", False, message, hint)
    usage = subprocess.run(["srun", "--help"], capture_output=True, text=True, errors="replace", check=False)
    if "--container-image" in usage.stdout and "pinnace" in usage.stdout:
        return Finding("Slurm", True, "srun knows --container-image")
    return Finding(
        "Slurm",
        False,
        "srun does not know Pinnace's --container-image",
        "add the plugin to plugstack.conf, see docs/admin.md; needed for jobs only",
        required=False,
    )


def _plugin_release() -> str | None:
    """The release of Slurm that the installed plugin was compiled for, as it records it (spank/plugin.c)."""
    try:
        with open(paths.PLUGIN, "rb") as plugin:
            found = re.search(rb"pinnace for Slurm 0x([0-9a-f]{2})([0-9a-f]{2})[0-9a-f]{2}\0", plugin.read())
    except OSError:
        return None
    return _release(int(found[1], 16), int(found[2], 16)) if found else None


def _slurm_release() -> str | None:
    # Not srun: a plugin that it must load and refuses keeps it from saying anything.
    command = ["scontrol", "--version"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return None
    found = re.match(r"\S+ (\d+)\.(\d+)", shown.stdout)
    return _release(int(found[1]), int(found[2])) if found else None


def _release(major: int, minor: int) -> str:
    """A release as Slurm writes it: all of its patch levels take the same plugins (plugin.c of Slurm)."""
    return f"{major}.{minor:02}"

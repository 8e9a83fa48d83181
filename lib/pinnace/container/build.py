"""From what is asked to the plan that does it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pinnace.config import Settings
from pinnace.container import backends, environment, identity, mounts, probe, rootfs, seccomp
from pinnace.container.identity import Identity
from pinnace.container.lower import Image
from pinnace.container.options import Options
from pinnace.container.overlay import Layer
from pinnace.container.plan import VERSION, Plan

#: What enroot executes in a container: the image's entry point or command, in its directory.
_SCRIPT = "/etc/rc"


def choose(settings: Settings, *, writable: bool, upper: str = "") -> backends.Choice:
    """What a root is made with on this machine under this configuration, and why.

    ``upper`` is the directory that keeps what a container writes; one that may not write needs none.
    Raises HostError.
    """
    if upper:
        layer = Layer(directory=upper, persistent=True)
    elif writable and settings["writable_layer"] != "tmpfs":
        layer = Layer(directory=settings["writable_layer"])
    else:
        layer = Layer(settings["writable_size"])
    return backends.choose(settings, layer, probe.machine(settings["store"]))


def run(options: Options, user: Identity, with_tools: rootfs.Tools) -> Plan:
    """The plan of ``pinnace run``, to be completed (see ``template``): it ends as the command.

    As with Docker and enroot, the host's variables stay outside but for those asked for.
    """
    plan = _container(options, user, with_tools, failure_status=125)
    plan.add("pivot")
    plan.add("clear-environment")
    _image_environment(plan, options)
    for name, value in _standard_variables(options, user):
        plan.add("default", f"{name}={value}")
    plan.add("pass-default", "TERM")
    plan.add("requested-environment")
    _restrict(plan, options)
    _working_directory(plan, options)
    if options.config is None and options.workdir is None:
        # As enroot does, which knows no directory but the script's own.
        plan.add("script", _SCRIPT)
    plan.add("command", *_own_command(options))
    return plan


def step(options: Options, user: Identity, with_tools: rootfs.Tools, socket: int, lifeline: int) -> Plan:
    """The plan of a step, to be completed: the container is handed over, each task joins it, does the rest.

    As with pyxis, the image's variables win over the task's and what only the task has stays. The
    shim keeps those that ``--container-env`` names.
    """
    plan = _container(options, user, with_tools, failure_status=1, lifeline=lifeline)
    plan.add("pivot")
    if options.entrypoint:
        _entrypoint(plan, options, user)
    plan.add("hand-over", socket)
    for name in environment.HOST_LOCALE:
        plan.add("unset", name)
    _image_environment(plan, options)
    plan.add("default", f"PATH={environment.DEFAULT_PATH}")
    plan.add("environment", f"HOME={identity.home_in_container(user, options.remap_root)}")
    if options.digest is not None:
        plan.add("environment", f"PINNACE_IMAGE_DIGEST={options.digest}")
    _restrict(plan, options)
    _working_directory(plan, options)
    return plan


def _container(
    options: Options,
    user: Identity,
    with_tools: rootfs.Tools,
    failure_status: int,
    lifeline: int | None = None,
) -> Plan:
    """Everything up to the finished tree, before it is entered."""
    plan = Plan()
    plan.add("version", VERSION)
    plan.add("failure-status", failure_status)
    if lifeline is not None:
        plan.add("lifeline", lifeline)
    if options.timings:
        plan.add("timings")
    plan.add("lease")
    image = Image(os.path.abspath(options.image), options.tree, options.foreign_ids)
    rootfs.add(plan, image, user, options.remap_root, with_tools)
    if not options.writable:
        _volumes(plan, options.config)  # before any other mount: they are of the image alone
    if options.unshare:
        plan.add("unshare", *options.unshare)
    configured = options.configured
    of_site = (*configured.early, *configured.mounts)
    mounts.add(plan, mounts.built_in(mounts.SYSTEM, of_site))
    mounts.add(plan, configured.early)
    mounts.add(plan, mounts.of_namespaces(options.unshare))
    plan.add("prepend", "/etc/passwd", "644", identity.passwd(user))
    plan.add("prepend", "/etc/group", "644", identity.group(user))
    if options.remap_root:
        # apt checks that it became another user for its downloads, which nobody can with a single id.
        sandbox = 'APT::Sandbox::User "root";\n'
        plan.add("optional-file", "/etc/apt/apt.conf.d/99pinnace", "644", sandbox)
    mounts.add(plan, mounts.built_in(mounts.FILES, of_site))
    if options.mount_home:
        mounts.add(plan, [mounts.home(user.home, identity.home_in_container(user, options.remap_root))])
    if configured.hooks:
        from pinnace.container import hooks

        hooks.add(
            plan,
            configured,
            remap_root=options.remap_root,
            writable=options.writable,
            step=lifeline is not None,
        )
    mounts.add(plan, configured.mounts)
    mounts.add(plan, options.mounts)
    if not options.writable:
        plan.add("read-only")
    return plan


def _entrypoint(plan: Plan, options: Options, user: Identity) -> None:
    """Execute the image's entry point once: all tasks get the variables and the directory that it leaves."""
    words = _words((options.config or {}).get("Entrypoint"))
    if options.config is not None and not words:
        return
    plan.add("clear-environment")
    _image_environment(plan, options)
    for name, value in _standard_variables(options, user):
        plan.add("default", f"{name}={value}")
    for name, value in options.preserved:
        plan.add("environment", f"{name}={value}")
    log = "log" if options.entrypoint_log else "quiet"
    if options.config is None:
        plan.add("entrypoint-script", log, _SCRIPT)
    else:
        plan.add("entrypoint", log, *words)


def _volumes(plan: Plan, config: Mapping[str, object] | None) -> None:
    """The image's volumes can be written where its root cannot, as with enroot (image-spec, config.md)."""
    if config is None:
        plan.add("volumes-file", "/etc/fstab")
        return
    volumes = config.get("Volumes")
    for path in volumes if isinstance(volumes, dict) else ():
        if path.startswith("/") and "\0" not in path:
            plan.add("volume", path)


def _image_environment(plan: Plan, options: Options) -> None:
    """The variables of the image, then those that every container has here."""
    if options.config is None:
        plan.add("environment-file", "/etc/environment")
    for name, value in environment.of_image(options.config or {}):
        plan.add("environment", f"{name}={value}")
    for name, value in options.configured.environment:
        plan.add(*(["expand"] if "${" in value else []), "environment", f"{name}={value}")
    if options.configured.hooks:
        plan.add("hook-variables")


def _standard_variables(options: Options, user: Identity) -> Iterable[tuple[str, str]]:
    """What a login would have set; the image's own values win."""
    name = "root" if options.remap_root else user.name
    yield "PATH", environment.DEFAULT_PATH
    yield "HOME", identity.home_in_container(user, options.remap_root)
    yield "USER", name
    yield "LOGNAME", name
    if options.digest is not None:
        yield "PINNACE_IMAGE_DIGEST", options.digest


def _restrict(plan: Plan, options: Options) -> None:
    """Give privileges up. Under remap-root the capabilities of the container's own namespace stay."""
    if not options.remap_root:
        plan.add("drop-capabilities")
    plan.add("no-new-privileges")
    filter_program = seccomp.program(os.uname().machine)
    if filter_program:
        plan.add("seccomp", filter_program)


def _working_directory(plan: Plan, options: Options) -> None:
    if options.workdir is not None:
        plan.add("working-directory", options.workdir, "user")
        return
    if options.config is None:
        plan.add("working-directory-file", _SCRIPT)
        return
    directory = options.config.get("WorkingDir")
    plan.add("working-directory", directory if isinstance(directory, str) and directory else "/", "image")


def _own_command(options: Options) -> list[str]:
    """What runs if no command is given: only then the image's entry point does, as with pyxis."""
    config = options.config or {}
    default = [*_words(config.get("Entrypoint")), *_words(config.get("Cmd"))]
    return default or ["/bin/sh"]


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []

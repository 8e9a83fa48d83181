"""Plans: what is asked of a container and what is done for it, as data."""

from __future__ import annotations

import struct

from pinnace import fields
from pinnace.container import build, mounts
from pinnace.container.configured import Configured
from pinnace.container.identity import Identity
from pinnace.container.lower import Squashfuse, Unpack
from pinnace.container.options import Options
from pinnace.container.overlay import FuseOverlayfs, Layer
from pinnace.container.plan import Plan
from pinnace.container.rootfs import Tools
from pinnace.container.template import Start, complete

ADA = Identity(1000, 1000, "ada", "users", "/home/ada", "/bin/bash", "Ada", (("crew", 2000),))
TOOLS = Tools(Squashfuse("/usr/bin/squashfuse_ll", "/usr/bin/squashfuse"))
CONFIG = {
    "Env": ["PATH=/opt/bin:/bin", "MODE=image"],
    "Entrypoint": ["/entry"],
    "Cmd": ["serve"],
    "WorkingDir": "/srv",
}


def run(
    *command: str,
    host: dict[str, str] | None = None,
    environment: tuple[tuple[str, str], ...] = (),
    **options: object,
) -> Plan:
    asked = Options("/images/a.sqsh", **options)  # type: ignore[arg-type]
    start = Start(words=command, environment=environment, host=host or {})
    return complete(build.run(asked, ADA, TOOLS), start)


def step(**options: object) -> Plan:
    asked = Options("/images/a.sqsh", **options)  # type: ignore[arg-type]
    return complete(build.step(asked, ADA, TOOLS, socket=3, lifeline=4), Start())


def arguments(plan: Plan, name: str) -> list[list[str]]:
    return [entry[1:] for entry in plan.as_data() if entry[0] == name]


def names(plan: Plan) -> list[str]:
    return [entry[0] for entry in plan.as_data()]


def test_the_version_comes_first() -> None:
    assert run("true").as_data()[0] == ["version", "1"]


def test_what_a_site_mounts_comes_before_what_was_asked_for_and_takes_the_place_of_the_standard() -> None:
    site = Configured(
        early=(mounts.Mount("bind", "/proc", "/proc", ("read-only",)),),
        mounts=(mounts.Mount("bind", "/site", "/s/${USER}", (), (), True),),
    )
    plan = run(host={"USER": "ada"}, configured=site, mounts=tuple(mounts.parse("/etc:/x", "/")))
    binds = [(source, target) for source, target, _ in arguments(plan, "bind")]
    assert binds.index(("/s/ada", "/site")) < binds.index(("/etc", "/x"))
    assert arguments(plan, "bind").count(["/proc", "/proc", "read-only"]) == 1
    assert [target for _, target in binds].count("/proc") == 1


def test_a_sites_variables_win_over_the_images_and_are_the_callers_where_they_say_so() -> None:
    site = Configured(environment=(("MODE", "${MODE} here"), ("TERM", "${TERM}")))
    for plan in (
        run(host={"MODE": "x"}, config=CONFIG, configured=site),
        run(host={"MODE": "x"}, configured=site),
    ):
        assert arguments(plan, "environment")[-2] == ["MODE=x here"]
        assert arguments(plan, "environment")[-1] == ["TERM="]


def test_volumes_of_an_image_lie_below_all_other_mounts() -> None:
    """Else /etc as one would hide the host's hosts, /home what is mounted there, /sys could not be one."""
    plan = names(run(config={"Volumes": {"/sys/fs/cgroup": {}}}, mount_home=True))
    assert plan.index("volume") < plan.index("bind")


def test_volumes_of_an_image_can_be_written_where_its_root_cannot() -> None:
    config = {**CONFIG, "Volumes": {"/data": {}, "relative": {}, "/a\0b": {}}}
    assert arguments(run(config=config), "volume") == [["/data"]]
    assert arguments(run(), "volumes-file") == [["/etc/fstab"]]
    for plan in (run(config=config, writable=True), run(writable=True), run(config={"Volumes": ["/x"]})):
        assert "volume" not in names(plan) and "volumes-file" not in names(plan)


def test_file_systems_of_own_namespaces_cover_what_a_site_mounts_of_the_host() -> None:
    site = Configured(early=(mounts.Mount("bind", "/sys", "/sys", ("read-only",)),))
    (last, *_) = [
        entry for entry in reversed(run(configured=site, unshare=("net",)).as_data()) if "/sys" in entry
    ]
    assert last[0] != "bind"


def test_hooks_come_before_the_mounts_that_need_nothing_of_them_and_their_variables_after_the_images() -> (
    None
):
    site = Configured(mounts=(mounts.Mount("bind", "/s", "/s"),), hooks=("/h/a.sh", "/h/b.sh"))
    for plan in (run(config=CONFIG, configured=site), step(config=CONFIG, configured=site)):
        order = names(plan)
        assert arguments(plan, "hook") == [["/h/a.sh"], ["/h/b.sh"]]
        late = plan.as_data().index(["bind", "/s", "/s", ""])
        assert order.index("hooks-begin") < order.index("hook") < order.index("hooks-end") < late
        assert order.index("environment") < order.index("hook-variables") < order.index("default")
    assert "hook-variables" not in names(run(config=CONFIG))


def test_hooks_of_a_step_have_nothing_that_is_one_tasks_own() -> None:
    site = Configured(hooks=("/h/a.sh",))
    (told,) = arguments(step(configured=site, remap_root=True), "hooks-begin")
    assert {"SLURM_PROCID", "LD_PRELOAD", "ENROOT_REMAP_ROOT=y", "ENROOT_ROOTFS_WRITABLE"} <= set(told)
    (told,) = arguments(run(configured=site), "hooks-begin")
    assert "SLURM_PROCID" not in told and not any(text.startswith("PATH=") for text in told)


def test_the_image_is_mounted_in_a_holder_and_used_in_its_child() -> None:
    assert arguments(run("true"), "user-namespace") == [["0", "0"], ["1000", "1000"]]


def test_remap_root_makes_the_user_root_in_the_child() -> None:
    assert arguments(run("true", remap_root=True), "user-namespace") == [["0", "0"], ["0", "0"]]


def test_the_fuse_server_is_started_before_the_mount_namespace_that_it_would_keep_alive() -> None:
    order = names(run("true"))
    assert order.index("keeper") < order.index("fuse-server")
    assert order.index("fuse-server") < order.index("mount-namespace") < order.index("fuse-mount")


def test_fuse_overlayfs_takes_the_place_of_the_kernels_overlay() -> None:
    tools = TOOLS._replace(overlay=FuseOverlayfs("/usr/bin/fuse-overlayfs"))
    plan = build.run(Options("/a.sqsh"), ADA, tools)
    assert "overlay" not in names(plan)
    assert [server[0] for server in arguments(plan, "fuse-server")] == ["image", "overlay"]


def test_an_unpacked_image_needs_no_server() -> None:
    asked = Options("/images/a.sqsh", tree="/store/a/root")
    plan = build.run(asked, ADA, TOOLS._replace(backend=Unpack()))
    assert "fuse-server" not in names(plan)
    assert arguments(plan, "lower-directory") == [["/store/a/root"]]
    order = names(plan)
    assert order.index("mount-namespace") < order.index("lower-directory") < order.index("scratch")


def test_the_writable_layer_is_in_memory_or_in_a_directory_that_goes_or_stays() -> None:
    asked = Options("/images/a.sqsh")

    def layers(layer: Layer) -> list[list[str]]:
        return arguments(build.run(asked, ADA, TOOLS._replace(layer=layer)), "upper-directory")

    assert layers(Layer(4096)) == []
    assert layers(Layer(directory="/scratch")) == [["/scratch", "temporary"]]
    assert layers(Layer(directory="/data/mine", persistent=True)) == [["/data/mine", "persistent"]]


def test_the_root_is_read_only_unless_writable_is_asked_for() -> None:
    assert "read-only" in names(run("true"))
    assert "read-only" not in names(run("true", writable=True))


def test_the_root_becomes_read_only_after_the_last_mount_was_made() -> None:
    order = names(run("true", mounts=tuple(mounts.parse("/etc:/x", "/"))))
    assert order.index("read-only") > max(index for index, name in enumerate(order) if name == "bind")


def test_further_namespaces_are_children_of_the_containers_user_namespace() -> None:
    assert "unshare" not in names(step())
    plan = step(unshare=("net", "ipc"))
    assert arguments(plan, "unshare") == [["net", "ipc"]]
    order = names(plan)
    last = len(order) - 1 - order[::-1].index("user-namespace")
    assert last < order.index("unshare") < order.index("hand-over")
    assert order.index("unshare") < order.index("sysfs")
    assert "/dev/shm" in [entry[0] for entry in arguments(plan, "tmpfs")]
    assert "/dev/shm" not in [entry[0] for entry in arguments(step(unshare=("uts",)), "tmpfs")]


def test_a_step_executes_the_entry_point_if_asked_with_the_variables_of_the_image() -> None:
    assert "entrypoint" not in names(step(config=CONFIG))
    plan = step(config=CONFIG, entrypoint=True, preserved=(("MODE", "job"),))
    assert arguments(plan, "entrypoint") == [["quiet", "/entry"]]
    before = plan.as_data()[names(plan).index("clear-environment") : names(plan).index("entrypoint")]
    assert [entry[1] for entry in before if entry[0] == "environment"] == [
        "PATH=/opt/bin:/bin",
        "MODE=image",
        "MODE=job",
    ]
    assert names(plan).index("pivot") < names(plan).index("entrypoint") < names(plan).index("hand-over")
    assert "entrypoint" not in names(step(config=CONFIG | {"Entrypoint": None}, entrypoint=True))


def test_the_entry_point_of_a_file_of_unknown_origin_is_its_script() -> None:
    plan = step(entrypoint=True, entrypoint_log=True)
    assert arguments(plan, "entrypoint-script") == [["log", "/etc/rc"]]


def test_capabilities_are_dropped_but_for_a_root_that_was_asked_for() -> None:
    assert "drop-capabilities" in names(run("true"))
    assert "drop-capabilities" not in names(run("true", remap_root=True))


def test_privileges_are_given_up_before_the_filter_is_loaded() -> None:
    order = names(run("true"))
    assert order.index("no-new-privileges") < order.index("seccomp") < order.index("command")


def test_the_hosts_variables_stay_outside_a_run() -> None:
    plan = run("true", config=CONFIG, host={"SECRET": "x", "TERM": "xterm"})
    assert "clear-environment" in names(plan)
    assert not any("SECRET" in text for entry in plan.as_data() for text in entry)
    assert ["TERM=xterm"] in arguments(plan, "default")


def test_variables_asked_for_win_over_the_images() -> None:
    plan = run("true", config=CONFIG, environment=(("MODE", "mine"),))
    assert arguments(plan, "environment")[-1] == ["MODE=mine"]


def test_a_file_of_unknown_origin_brings_its_variables_in_etc_environment() -> None:
    assert arguments(run("true"), "environment-file") == [["/etc/environment"]]


def test_a_file_of_unknown_origin_is_executed_as_its_own_rc_script_says() -> None:
    plan = run("echo", "a b")
    assert arguments(plan, "working-directory-file") == [["/etc/rc"]]
    assert arguments(plan, "script") == [["/etc/rc", "echo", "a b"]]
    assert arguments(plan, "command") == [["echo", "a b"]]  # where there is no script, or no shell for it
    assert arguments(run(), "script") == [["/etc/rc"]] and arguments(run(), "command") == [["/bin/sh"]]


def test_a_step_goes_where_the_rc_script_would() -> None:
    assert arguments(step(), "working-directory-file") == [["/etc/rc"]]
    assert arguments(step(config=CONFIG), "working-directory-file") == []
    assert arguments(step(workdir="/x"), "working-directory-file") == []


def test_a_working_directory_that_was_asked_for_is_kept_from_the_script() -> None:
    plan = run("true", workdir="/x")
    assert "script" not in names(plan) and arguments(plan, "working-directory") == [["/x", "user"]]


def test_an_image_whose_configuration_is_known_needs_no_script() -> None:
    assert "script" not in names(run("true", config={})) and "script" not in names(step())


def test_files_of_others_than_root_are_shown_as_the_users() -> None:
    server = arguments(run("true", foreign_ids=True), "fuse-server")[0]
    assert server[1].endswith("/squashfuse") and server[2] == "-o" and server[3].startswith("uid=0,gid=0,")
    assert arguments(run("true"), "fuse-server")[0][1:3] == ["/usr/bin/squashfuse_ll", "-f"]


def test_a_command_takes_the_place_of_the_images_own() -> None:
    assert arguments(run("id", "-u", config=CONFIG), "command") == [["id", "-u"]]
    assert arguments(run(config=CONFIG), "command") == [["/entry", "serve"]]
    assert arguments(run(), "command") == [["/bin/sh"]]


def test_the_working_directory_is_the_images_unless_one_is_asked_for() -> None:
    assert arguments(run("true", config=CONFIG), "working-directory") == [["/srv", "image"]]
    assert arguments(run("true", config=CONFIG, workdir="/w"), "working-directory") == [["/w", "user"]]


def test_the_home_is_mounted_where_the_users_entry_says() -> None:
    assert ["/home/ada", "/home/ada", "create=directory,recursive,nosuid"] in arguments(
        run("true", mount_home=True), "bind"
    )
    assert ["/home/ada", "/root", "create=directory,recursive,nosuid"] in arguments(
        run("true", mount_home=True, remap_root=True), "bind"
    )


def test_the_user_and_his_groups_have_names() -> None:
    (passwd, group) = arguments(run("true"), "prepend")
    assert "ada:x:1000:1000:Ada:/home/ada:/bin/bash\n" in passwd[2]
    assert "users:x:1000:\n" in group[2] and "crew:x:2000:\n" in group[2]


def test_a_steps_servers_hold_the_lifeline_and_a_runs_do_not() -> None:
    order = names(step())
    assert order.index("lifeline") < order.index("fuse-server")
    assert "lifeline" not in names(run("true"))


def test_a_steps_container_is_handed_over_before_what_each_task_does() -> None:
    order = names(step(config=CONFIG))
    assert order.index("pivot") < order.index("hand-over") < order.index("environment")
    assert "clear-environment" not in order and "command" not in order


def test_a_step_sets_the_images_variables_and_drops_the_hosts_locale() -> None:
    plan = step(config=CONFIG)
    assert {"MODE=image", "PATH=/opt/bin:/bin"} <= {text for (text,) in arguments(plan, "environment")}
    assert arguments(plan, "unset") == [["LANG"], ["LANGUAGE"], ["LC_ALL"]]


def test_an_encoded_plan_holds_every_argument() -> None:
    plan = Plan()
    plan.add("bind", "/a b", "/c", "recursive")
    plan.add("file", "/etc/x", "644", "text\n")
    plan.add("environment", "A=b")
    assert list(fields.decode(plan.encode())) == [
        ("bind", b"/a b\0/c\0recursive\0"),
        ("file", b"/etc/x\x00644\0text\n"),
        ("environment", b"A=b"),
    ]
    assert plan.encode()[:8] == struct.pack(">II", 4, 18)

"""What a site configures of every container: mounts.d, environ.d."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnace import config, fields
from pinnace.container import configured, environ, fstab, hooks
from pinnace.container.configured import Configured
from pinnace.container.mounts import Mount
from pinnace.errors import ConfigurationError


def mount(line: str) -> Mount:
    (entry,) = fstab.parse(line, "a.fstab")
    return entry.mount


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/src /dst none bind,ro 0 0", Mount("bind", "/dst", "/src", ("read-only",))),
        ("/src", Mount("bind", "/src", "/src", ("recursive", "create=auto"))),
        ("/src /dst", Mount("bind", "/dst", "/src", ("recursive", "create=auto"))),
        ("/src bind", Mount("bind", "/src", "/src")),
        ("/src bind,nosuid", Mount("bind", "/src", "/src", ("nosuid",))),
        ("/src /dst bind", Mount("bind", "/dst", "/src")),
        ("tmpfs /dst", Mount("tmpfs", "/dst")),
        ("tmpfs /dst none size=1G,nosuid", Mount("tmpfs", "/dst", "", ("nosuid",), ("size=1G",))),
        (
            "x /dst tmpfs x-create=dir,mode=700",
            Mount("tmpfs", "/dst", "", ("create=directory",), ("mode=700",)),
        ),
        ("none /dst none x-create=dir,x-detach,nofail,silent", Mount("unmount", "/dst", "", ("optional",))),
        ("none /dst none rbind,remount,ro,rslave", Mount("remount", "/dst", "", ("read-only", "slave"))),
        ("none /dst none slave", Mount("remount", "/dst", "", ("slave",))),
        ("/a /b none bind,ro,nosuid,rw,suid,relatime,defaults,_netdev", Mount("bind", "/b", "/a")),
        (r"/a\040b /c\011d none bind", Mount("bind", "/c\td", "/a b")),
        ("/a\t/b none bind # why", Mount("bind", "/b", "/a")),
        ("${ENROOT_ROOTFS}/a /b none bind", Mount("bind", "/b", "/a", ("inside",))),
        ("${ENROOT_ROOTFS}/a /b none x-move", Mount("bind", "/b", "/a", ("move", "inside"))),
        ("/s/${USER} /dst", Mount("bind", "/dst", "/s/${USER}", ("recursive", "create=auto"), (), True)),
    ],
)
def test_a_line_is_read_as_enroot_does(line: str, expected: Mount) -> None:
    assert mount(line) == expected


def test_lines_of_order_minus_one_come_first_and_those_of_others_are_not_mounted() -> None:
    text = (
        "# a comment\n\n/a /a none bind 0 -1\n/b /b none bind -1\n/c /c none bind 0 0\n/e /e none bind 0 2\n"
    )
    assert [(entry.mount.target, entry.early) for entry in fstab.parse(text, "f")] == [
        ("/a", True),
        ("/b", True),
        ("/c", False),
    ]


def test_a_mount_of_a_device_that_may_fail_is_passed_over() -> None:
    assert fstab.parse("mqueue /dev/mqueue mqueue nosuid,nofail", "f") == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/src /dst none bind,frob", "unknown option frob"),
        ("/src /dst none ro", "lack bind"),
        ("src /dst none bind", "absolute path"),
        ("/src / none bind", "below the container's root"),
        ("/src /.. none bind", "below the container's root"),
        ("tmpfs", "below the container's root"),
        ("/dev/sda1 /dst ext4 rw", "type ext4"),
        ("/src /dst none bind x y", "must be numbers"),
        ("/src /dst none x-move", "must lie in the container"),
        ("/s\0rc /dst none bind", "NUL"),
    ],
)
def test_a_malformed_mount_is_named_with_file_and_line(line: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        fstab.parse(f"# first\n{line}\n", "/etc/x.fstab")
    assert "/etc/x.fstab, line 2" in str(caught.value) and "\n" not in str(caught.value)


def test_variables_are_lines_of_name_and_value() -> None:
    text = '# a comment\n\n  A=1\nB="two words"\nC=\'${HOME}\'\nD=\nENROOT_X=no\nE="\n'
    assert environ.parse(text, "f") == [
        ("A", "1"),
        ("B", "two words"),
        ("C", "${HOME}"),
        ("D", ""),
        ("E", '"'),
    ]


@pytest.mark.parametrize("line", ["export A=1", "A", "1A=b", "=b", "Ä=1", "A=\0"])
def test_a_malformed_variable_is_named_with_file_and_line(line: str) -> None:
    with pytest.raises(ConfigurationError, match="is no variable") as caught:
        environ.parse(f"OK=1\n{line}\n", "/etc/x.env")
    assert "/etc/x.env, line 2" in str(caught.value)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration directory with both kinds of files."""
    for directory in ("site/mounts.d", "site/environ.d", "home/pinnace/environ.d"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "site/mounts.d/20-b.fstab").write_text("/b\n")
    (tmp_path / "site/mounts.d/10-a.fstab").write_text("/a /a none bind 0 -1\n")
    (tmp_path / "site/mounts.d/README").write_text("no mount\n")
    (tmp_path / "site/environ.d/10-a.env").write_text("A=site\n")
    (tmp_path / "home/pinnace/environ.d/10-a.env").write_text("A=own\n")
    return tmp_path / "site"


def test_only_what_can_be_executed_is_a_hook(site: Path) -> None:
    (site / "hooks.d").mkdir()
    for name, mode in (("b.sh", 0o755), ("a.sh", 0o755), ("c.sh", 0o644), ("README", 0o755)):
        (site / "hooks.d" / name).write_text("")
        (site / "hooks.d" / name).chmod(mode)
    settings = load(site)
    found = configured.load(settings).hooks
    assert found == (str(site / "hooks.d/a.sh"), str(site / "hooks.d/b.sh"))
    assert {str(site / "hooks.d"), *found, str(site / "hooks.d/c.sh")} <= settings.basis.files.keys()


@pytest.fixture
def appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[list[str]]]:
    """What the files of hooks become, the second having been there up to its first line."""

    def results(mounted: str, variables: str) -> list[list[str]]:
        (tmp_path / "fstab").write_text(mounted)
        (tmp_path / "environment").write_text(variables)
        for variable, name in (("ROOTFS", "root"), ("MOUNTS", "fstab"), ("ENVIRON", "environment")):
            monkeypatch.setenv(f"ENROOT_{variable}", str(tmp_path / name))
        known = variables.index("\n") + 1
        command = [sys.executable, "-c", "from pinnace.container import hooks; hooks.main()", str(known)]
        library = {"PYTHONPATH": str(Path(hooks.__file__).parents[2])}
        done = subprocess.run(command, env={**os.environ, **library}, check=True, stdout=subprocess.PIPE)
        return [
            [key, *value.decode().removesuffix("\0").split("\0")] for key, value in fields.decode(done.stdout)
        ]

    return results


def test_what_hooks_append_is_taken_as_it_is(
    appended: Callable[[str, str], list[list[str]]], tmp_path: Path
) -> None:
    mounted = f"/a${{X}} /b none bind\n{tmp_path}/root/c /d none bind,ro\n"
    assert appended(mounted, "KNOWN=1\nA='${X}'\n") == [
        ["bind", "/a${X}", "/b", ""],
        ["bind", "/c", "/d", "read-only,inside"],
        ["environment", "A=${X}"],
    ]


def test_what_hooks_append_wrongly_is_an_error_in_one_line(
    appended: Callable[[str, str], list[list[str]]],
) -> None:
    ((key, text),) = appended("/a /b none bind,frob\n", "KNOWN=1\n")
    assert key == "error" and "unknown option frob (what a hook appended to ENROOT_MOUNTS, line 1)" in text


def load(site: Path, **environment: str) -> config.Settings:
    return config.load(
        {"HOME": "/", "XDG_CONFIG_HOME": str(site.parent / "home"), **environment}, directory=str(site)
    )


def test_files_count_in_the_order_of_directories_and_names_the_users_last(site: Path) -> None:
    assert configured.load(load(site)) == Configured(
        early=(Mount("bind", "/a", "/a"),),
        mounts=(Mount("bind", "/b", "/b", ("recursive", "create=auto")),),
        environment=(("A", "site"), ("A", "own")),
    )


def test_the_administrator_may_close_users_directories_and_choose_others(site: Path) -> None:
    (site / "pinnace.toml").write_text('user_directories = false\nmounts_dir = ["/no/such/directory"]\n')
    assert configured.load(load(site)) == Configured(environment=(("A", "site"),))
    with pytest.raises(ConfigurationError, match="the administrator's"):
        load(site, PINNACE_MOUNTS_DIR="/tmp")


def test_what_was_read_and_what_was_not_there_is_noted(site: Path) -> None:
    settings = load(site)
    configured.load(settings)
    noted = {path for path in settings.basis.files if ".d" in path and "pinnace.d" not in path}
    own = site.parent / "home/pinnace"
    assert noted == {
        *map(str, (site / "mounts.d", site / "mounts.d/10-a.fstab", site / "mounts.d/20-b.fstab")),
        *map(str, (site / "environ.d", site / "environ.d/10-a.env")),
        *map(str, (site / "hooks.d", own / "hooks.d")),
        *map(str, (own / "mounts.d", own / "environ.d", own / "environ.d/10-a.env")),
    }
    assert settings.basis.files[str(own / "mounts.d")] == "absent"


def test_a_directory_that_is_none_is_one_clear_line(site: Path) -> None:
    (site / "pinnace.toml").write_text('mounts_dir = ["/etc/passwd"]\n')
    with pytest.raises(ConfigurationError, match="mounts_dir: /etc/passwd is not a directory"):
        configured.load(load(site))

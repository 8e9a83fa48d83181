"""A configuration in enroot's files: what a shell makes of them, and that it comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pinnace.sources import enroot

#: /etc/rc as enroot 4.1 writes it for an image with everything.
ENROOTS = """\
# enroot-provenance: docker://registry-1.docker.io#library/tool:1
# maintainer somebody "quoted" $(date)

mkdir -p "/srv/my dir" 2> /dev/null
cd "/srv/my dir" && unset OLDPWD || exit 1

if [ -s /etc/rc.local ]; then
    . /etc/rc.local
fi

if [ $# -gt 0 ]; then
    exec '/entry' 'a b' "$@"
else
    exec '/entry' 'a b' 'it'\\''s' '--x=y'
fi
"""
BARE = ENROOTS.replace("'/entry' 'a b' ", "").replace('"/srv/my dir"', '"/"')
ODD = ["a b", "it's", '"', "$HOME", "`id`", "\\", "*", "#", "-n", "", "é", "a\nb", "x;y", "!!", "~"]


def files(**config: Any) -> dict[str, str]:
    return {path.decode(): text.decode() for path, text in enroot.files_of(config, "h.io/a:1").items()}


def read(script: str, local: str = "# nothing\n") -> dict[str, Any]:
    return enroot.config_of({enroot.SCRIPT: script.encode(), enroot.LOCAL: local.encode()})


def executed(script: str, tmp_path: Path, shell: str, *arguments: str) -> list[str]:
    """What the script executes, word by word: the program shows its arguments."""
    (tmp_path / "rc").write_text(script)
    shown = subprocess.run([shell, str(tmp_path / "rc"), *arguments], capture_output=True, check=True)
    return shown.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_shells_execute_what_the_configuration_says(shell: str, tmp_path: Path) -> None:
    show = ["printf", "%s\\0"]
    script = files(Entrypoint=show, Cmd=ODD, WorkingDir=str(tmp_path / "new '$dir'"))["etc/rc"]
    assert executed(script, tmp_path, shell) == ODD
    assert executed(script, tmp_path, shell, "a b", "") == ["a b", ""]
    assert (tmp_path / "new '$dir'").is_dir()
    alone = files(Cmd=[*show, "x"])["etc/rc"]
    assert executed(alone, tmp_path, shell) == ["x"]
    assert executed(alone, tmp_path, shell, *show, "y") == ["y"]


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_scripts_are_correct_for_shells_whatever_the_words(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "rc"
    script.write_text(files(Entrypoint=ODD, Cmd=ODD, WorkingDir="/a'b\"c $(x)")["etc/rc"])
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    "config",
    [
        {"Entrypoint": ["/entry"], "Cmd": ["serve", "it's"], "WorkingDir": "/srv"},
        {"Cmd": ["/bin/bash"]},
        {"Entrypoint": ["/a b"], "Env": ["A=1", "B=", 'C="quoted"', "D='x'", "E=a'b", 'F="', "G= s "]},
    ],
)
def test_a_configuration_comes_back(config: dict[str, Any]) -> None:
    written = enroot.files_of(config, "h.io/a:1")
    assert enroot.config_of(written) == config


def test_enroots_own_files_are_read() -> None:
    assert read(ENROOTS) == {
        "WorkingDir": "/srv/my dir",
        "Entrypoint": ["/entry", "a b"],
        "Cmd": ["it's", "--x=y"],
    }
    assert read(BARE) == {"Cmd": ["it's", "--x=y"]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("exec '/entry' 'a b' 'it", "exec $X '/entry' 'a b' 'it"),
        ("'--x=y'", "$'a\\nb'"),
        ("'--x=y'", "'--x=y' && echo"),
        ("'--x=y'", "'--x=y"),
        ("mkdir", "rm -r /x; mkdir"),
        ("fi\n", "fi\necho more\n"),
        ("if [ $# -gt 0 ]; then\n", ""),
        (ENROOTS, ""),
        (ENROOTS, "\n" * 200_000),
        (ENROOTS, "exec " * 100_000),
    ],
)
def test_a_script_of_another_form_is_executed_as_it_is(old: str, new: str) -> None:
    assert read(ENROOTS.replace(old, new))["Cmd"] == ["/bin/sh", "/etc/rc"]


def test_a_script_that_reads_more_is_executed_as_it_is_and_tells_its_directory() -> None:
    found = read(ENROOTS, "# a note\nexport A=1\n")
    assert found == {"Cmd": ["/bin/sh", "/etc/rc"], "WorkingDir": "/srv/my dir"}


def test_a_directory_that_takes_a_shell_to_tell_is_not_told() -> None:
    assert "WorkingDir" not in read(ENROOTS.replace('"/srv/my dir"', '"$(x)"'))


def test_an_images_own_script_is_not_replaced_by_one_that_executes_it() -> None:
    assert set(files(Cmd=["/bin/sh", "/etc/rc"], Env=["A=1"])) == {"etc/environment", "etc/fstab"}


def test_variables_are_read_as_enroot_does() -> None:
    text = b"A=1\n  B=2\n# C=3\nENROOT_X=1\n1D=x\nno\nE=\"q q\"\nF='x'\nG=\"x'\nH=\n=x\nI=\0\n"
    found = enroot.config_of({enroot.ENVIRONMENT: text})
    assert found == {"Env": ["A=1", "B=2", "E=q q", "F=x", "G=\"x'", "H="]}


def test_volumes_stay_writable() -> None:
    fstab = files(Volumes={"/data": {}, "relative": {}, "/a b": {}, "/x${Y}": {}, "/n\nl": {}})["etc/fstab"]
    assert fstab == "${ENROOT_ROOTFS}/data /data none x-create=dir,bind,rw,nosuid,nodev\n"


def test_no_configuration_writes_no_files_and_no_files_tell_none() -> None:
    assert files() == {} and enroot.config_of({}) == {}

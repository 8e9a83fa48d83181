"""Kept plans: what is written for the next start, and when nothing is."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from pinnace import __version__, config, fields, paths
from pinnace.basis import Basis, Lock
from pinnace.cli import run
from pinnace.container import kept, probe
from pinnace.container.plan import Plan
from pinnace.phases import Phases

_LIBEXEC = Path(__file__).parents[2] / "libexec"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a home, and an installation that is not of this moment."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(paths, "FRONT", "/usr/bin/pinnace")
    monkeypatch.setattr(paths, "EXECUTOR", "/bin/sh")


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """Where the entries of this boot lie."""
    return tmp_path / "home/.cache/pinnace/plans" / probe.boot_id()


def template(*operations: str) -> Plan:
    plan = Plan()
    for name in operations or ("version", "lease", "command"):
        plan.add(name, "1")
    return plan


def keep(*operations: str, basis: Basis | None = None, lease: int | None = None, image: str = "image") -> str:
    """Why the plan of a start was not kept, or nothing."""
    asked = kept.of_run([("-m", "/a"), ("-e", "A=1")], image)
    return kept.keep(template(*operations), asked, basis or Basis(), lease)


def entries(plans: Path) -> list[Path]:
    return sorted(plans.iterdir()) if plans.exists() else []


def test_an_entry_says_what_was_asked_what_it_rests_on_and_what_to_do(plans: Path) -> None:
    basis = Basis()
    basis.variable("SET", {"SET": "x"})
    basis.variable("NOT_SET", {})
    basis.existing("/")
    basis.expires(time.time() + 100)
    basis.directory = "/work"
    basis.lock = Lock("/image", "/record", "/leases/1-")
    assert keep(basis=basis, lease=3) == ""
    (entry,) = entries(plans)
    content = list(fields.decode(entry.read_bytes()))
    names = [name for name, _ in content]
    assert names[:7] == ["pinnace", "executor", "host", "user", "kind", "option", "image"]
    values = dict(content)
    assert values["pinnace"] == __version__.encode() and values["kind"] == b"run"
    assert values["executor"] == os.fsencode(os.path.realpath("/bin/sh"))
    assert values["host"].split(b"\0") == [probe.boot_id().encode(), os.uname().machine.encode(), b""]
    assert values["user"].split()[:2] == [str(os.getuid()).encode(), str(os.getgid()).encode()]
    assert values["option"] == b"-m\0/a\0" and values["image"] == b"image"
    assert names[7] == "written" and int(values["written"]) <= time.time() < int(values["until"]) + 1
    assert {b"SET\0x\0", b"NOT_SET\0"} <= {value for name, value in content if name == "variable"}
    assert (values["directory"], values["lock"]) == (b"/work", b"/image\0/record\0/leases/1-\0")
    assert ("file", b"/\0\0") in content
    assert content[names.index("plan") :] == [
        ("plan", b""),
        ("version", b"1\0"),
        ("lease", b"1\0"),
        ("command", b"1\0"),
    ]


def test_an_entry_is_the_users_alone(plans: Path) -> None:
    keep()
    (entry,) = entries(plans)
    assert entry.stat().st_mode & 0o777 == 0o600 and plans.stat().st_mode & 0o777 == 0o700


def test_it_lies_where_the_caches_of_the_user_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keep()
    assert len(entries(tmp_path / "cache/pinnace/plans" / probe.boot_id())) == 1


@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_nothing_is_kept(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    assert keep() == "the user has no home"
    assert not any((tmp_path / "home").iterdir())


def test_starts_that_differ_have_entries_of_their_own(plans: Path) -> None:
    for image in ("a", "b", "a"):
        keep(image=image)
    assert len(entries(plans)) == 2


def test_variables_and_a_job_make_no_difference() -> None:
    assert kept.of_run([("-e", "A=1"), ("--env", "B")], "i") == kept.of_run([], "i")
    request = [("protocol", b"1"), ("job-id", b"7"), ("step-id", b"0"), ("node-tasks", b"2"), ("image", b"i")]
    request += [("mounts", b"/a"), ("working-directory", b"/w"), ("environment", b"SECRET=x")]
    assert kept.of_step(request) == [("kind", b"step"), ("image", b"i"), ("mounts", b"/a")]


def refused() -> Basis:
    basis = Basis()
    basis.refuse("of some reason")
    return basis


def expired() -> Basis:
    basis = Basis()
    basis.expires(time.time() - 1)
    return basis


@pytest.mark.parametrize(("basis", "why"), [(refused(), "of some reason"), (expired(), "asked again")])
def test_what_cannot_be_relied_on_later_is_not_kept(basis: Basis, why: str, plans: Path) -> None:
    assert why in keep(basis=basis)
    assert not entries(plans)


def test_a_plan_that_does_more_than_is_known_here_is_not_kept(plans: Path) -> None:
    assert "something-new" in keep("version", "something-new")
    assert not entries(plans)


def test_the_installation_is_a_part_of_what_it_rests_on(plans: Path) -> None:
    basis = Basis()
    keep(basis=basis)
    assert basis.files.keys() == {"/bin/sh", paths.__file__}


def test_a_lease_that_cannot_be_taken_again_keeps_the_plan_from_it(plans: Path) -> None:
    assert "held in a way" in keep(lease=3)
    assert not entries(plans)


def test_nothing_is_kept_where_nobody_would_use_it(plans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "FRONT", "")
    assert "no compiled command" in keep()
    assert not entries(plans)


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").rmdir()
    (tmp_path / "home").write_text("no directory")
    assert "Not a directory" in keep()
    monkeypatch.setenv("HOME", "/proc/no")
    assert "No such file" in keep()


def test_nothing_is_made_in_the_home_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root would with sudo, which may keep HOME."""
    another = os.getuid() + 1
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(kept.os, name, lambda: another)
    assert keep() == f"{tmp_path}/home is not the user's"
    assert not any((tmp_path / "home").iterdir())


def test_a_full_disk_leaves_nothing(plans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept.os, "write", lambda descriptor, content: len(content) - 1)
    assert keep() == "there is no room for it"
    assert plans.exists() and not entries(plans)


def test_what_takes_too_many_bytes_is_not_kept(plans: Path) -> None:
    assert "bytes" in keep(image="x" * (1 << 20))
    assert not entries(plans)


def test_a_directory_of_others_is_left_alone(plans: Path, tmp_path: Path) -> None:
    plans.mkdir(parents=True, mode=0o700)
    plans.chmod(0o750)
    assert keep() == f"{plans} is not the user's alone"
    assert not entries(plans)
    plans.rmdir()
    plans.symlink_to(tmp_path)
    keep()
    assert entries(tmp_path) == [tmp_path / "home"]


def test_who_wants_timings_is_told_why_a_plan_is_not_kept(
    capsys: pytest.CaptureFixture[str], plans: Path
) -> None:
    for timings, told in (("0", ""), ("1", "pinnace: the plan is not kept: of some reason\n")):
        settings = config.load({"HOME": "/", "PINNACE_TIMINGS": timings})
        settings.basis.refuse("of some reason")
        kept.offer(template(), [], settings, None, Phases())
        assert capsys.readouterr().err == told


def test_no_plan_is_kept_where_the_settings_want_none(plans: Path) -> None:
    kept.offer(template(), [], config.load({"HOME": "/", "PINNACE_PLAN_CACHE": "no"}), None, Phases())
    assert not entries(plans)


def test_only_the_newest_entries_stay(plans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST", 3)
    known: dict[Path, int] = {}
    for number in range(5):
        keep(image=str(number))
        for path in set(entries(plans)) - known.keys():
            known[path] = number
            os.utime(path, (0, time.time() - 100 + number))
    assert [known[path] for path in sorted(entries(plans), key=known.__getitem__)] == [2, 3, 4]


def test_what_a_killed_start_and_other_boots_have_left_goes_after_a_month(plans: Path) -> None:
    keep()
    old, recent = plans.with_name("old-boot"), plans.with_name("other-boot")
    for boot in (old, recent):
        boot.mkdir()
        (boot / "entry").write_text("x")
    (plans / ".left.1").write_text("x")
    for path in (old, plans / ".left.1"):
        os.utime(path, (1000, 1000))
    for path in entries(plans):
        if not path.name.startswith("."):
            path.unlink()
    keep(image="another")
    assert len(entries(plans)) == 1
    (plans.parent / "x").mkdir()
    entries(plans)[0].unlink()
    plans.rmdir()
    keep()
    assert not old.exists() and recent.exists()


def test_the_compiled_command_knows_options_as_the_launcher_does() -> None:
    """An option that it does not know is for Python; one that it knows must be the same."""
    source = (_LIBEXEC / "asked.c").read_text()

    def listed(name: str) -> set[str]:
        found = re.search(name + r"\[\] = \{(.*?)\};", source, re.DOTALL)
        assert found is not None
        return set(re.findall(r'"([^"]*)"', found.group(1)))

    assert listed("with_value") <= {name[:-1] for name in run._LONG if name.endswith("=")}
    assert listed("without_value") <= {name for name in run._LONG if not name.endswith("=")}
    short = re.search(r'SHORT_WITH_VALUE\[\] = "(\w*)", SHORT_WITHOUT_VALUE\[\] = "(\w*)"', source)
    assert short is not None
    assert all(f"{letter}:" in run._SHORT for letter in short.group(1))
    assert all(letter in run._SHORT and f"{letter}:" not in run._SHORT for letter in short.group(2))

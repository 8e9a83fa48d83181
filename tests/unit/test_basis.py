"""What a start rests on: states of files, variables, times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnace import config
from pinnace.basis import ABSENT, Basis

_LONG_AGO = 1_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("text")
    os.utime(path, ns=(_LONG_AGO, _LONG_AGO))
    return path


@pytest.fixture
def basis(monkeypatch: pytest.MonkeyPatch) -> Basis:
    """One to which the files of the tests are old."""
    monkeypatch.setattr("pinnace.basis._TICK", 0)
    monkeypatch.setattr("pinnace.basis._COARSE_TICK", 0)
    return Basis()


def parts(basis: Basis, path: Path) -> list[int]:
    return [int(part) for part in basis.files[str(path)].split()]


def test_a_files_state_ends_with_its_times(basis: Basis, file: Path) -> None:
    basis.file(str(file))
    status = file.stat()
    assert parts(basis, file) == [
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        4,
        _LONG_AGO,
        status.st_ctime_ns,
    ]


def test_of_an_image_its_last_use_does_not_matter(basis: Basis, file: Path) -> None:
    basis.image(str(file))
    assert len(parts(basis, file)) == 7 and parts(basis, file)[-1] == _LONG_AGO


def test_of_a_place_its_content_does_not_matter(basis: Basis, tmp_path: Path) -> None:
    basis.place(str(tmp_path))
    assert len(parts(basis, tmp_path)) == 5


def test_of_a_mounts_source_only_matters_that_it_is_there(basis: Basis, tmp_path: Path) -> None:
    basis.existing(str(tmp_path))
    assert basis.files == {str(tmp_path): ""}


def test_what_is_not_there_matters_too(basis: Basis, file: Path) -> None:
    basis.file(str(file / "below"))
    basis.file("/no/such/file")
    assert set(basis.files.values()) == {ABSENT} and not basis.obstacle


def test_the_first_look_counts(basis: Basis, file: Path) -> None:
    basis.file(str(file))
    before = dict(basis.files)
    file.write_text("another text")
    basis.file(str(file))
    assert basis.files == before


def test_what_has_just_been_changed_may_change_without_a_trace(file: Path) -> None:
    basis = Basis()
    os.utime(file)
    basis.file(str(file))
    assert "just been changed" in basis.obstacle


def test_what_cannot_be_looked_at_is_an_obstacle(basis: Basis) -> None:
    basis.file("/" + 300 * "x")
    assert "File name too long" in basis.obstacle


def test_the_earliest_end_counts() -> None:
    basis = Basis()
    basis.expires(20)
    basis.expires(10)
    basis.expires(30)
    assert basis.until == 10


def test_settings_rest_on_files_that_are_not_there_and_on_every_variable(tmp_path: Path) -> None:
    (tmp_path / "pinnace.d").mkdir()
    (tmp_path / "pinnace.d" / "10.toml").write_text("connections = 2")
    environment = {"HOME": "/home/ada", "PINNACE_STORE": "/store", "OTHER": "x"}
    basis = config.load(environment, directory=str(tmp_path)).basis
    assert basis.variables.keys() >= {"PINNACE_" + key.name.upper() for key in config.KEYS}
    assert basis.variables["PINNACE_STORE"] == "/store" and basis.variables["PINNACE_OVERLAY"] is None
    assert basis.variables["HOME"] == "/home/ada" and basis.variables["XDG_CACHE_HOME"] is None
    assert "OTHER" not in basis.variables
    assert basis.files[str(tmp_path / "pinnace.toml")] == ABSENT
    assert basis.files["/home/ada/.config/pinnace/pinnace.toml"] == ABSENT
    assert {str(tmp_path / "pinnace.d"), str(tmp_path / "pinnace.d/10.toml")} <= basis.files.keys()


def test_settings_keep_no_secret(tmp_path: Path) -> None:
    environment = {"HOME": "/home/ada", "PINNACE_PASSWORD": "s3cret"}
    assert "PINNACE_PASSWORD" not in config.load(environment, directory=str(tmp_path)).basis.variables

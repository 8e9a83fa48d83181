"""What `make bench io` does to the files of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import loads


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "large").write_bytes(b"l" * 50_000)
    (tmp_path / "inner" / "small").write_bytes(b"s")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("/nowhere")
    monkeypatch.setattr(loads, "_TOP", str(tmp_path))
    return tmp_path


def test_every_entry_is_asked_for_once(tree: Path) -> None:
    assert loads.LOADS["stat"]()() == 5


@pytest.mark.parametrize("load", ["small", "sequential", "random"])
def test_what_is_read_was_chosen_before(tree: Path, load: str) -> None:
    read = loads.LOADS[load]()
    (tree / "inner" / "large").rename(tree / "inner" / "moved")
    (tree / "inner" / "small").rename(tree / "inner" / "gone")
    with pytest.raises(FileNotFoundError):
        read()


def test_a_load_tells_its_seconds(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["-c", "small"])
    loads.main()
    assert float(capsys.readouterr().out) > 0

"""A process that converts layers: what it makes, what it says, and how it ends."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from integration.trees import entry, layer
from pinnace import squashfs
from pinnace.errors import HostError, ImageError, StoreError
from pinnace.layers import Format, Limits, converter
from pinnace.layers.converter import Converter


@pytest.fixture
def process() -> Iterator[Converter]:
    with closing(Converter()) as made:
        yield made


def convert(process: Converter, tar: bytes, target: Path, *, limit: int = 1 << 30) -> None:
    diff_id = "sha256:" + hashlib.sha256(tar).hexdigest()
    process.convert(iter([gzip.compress(tar)]), diff_id, str(target), Format(), Limits(limit))


def child(process: Converter) -> int:
    assert process._process is not None
    return process._process.pid


def test_layers_are_converted_one_after_the_other_by_one_process(process: Converter, tmp_path: Path) -> None:
    children = set()
    for name in ("a", "b", "c"):
        convert(process, layer([entry(name)]), tmp_path / name)
        squashfs.check(str(tmp_path / name))
        children.add(child(process))
    assert len(children) == 1


def test_large_pieces_and_empty_ones_arrive(process: Converter, tmp_path: Path) -> None:
    tar = layer([entry("f", content=os.urandom(3 << 20))])
    pieces = [b"", tar[: 2 << 20], b"", tar[2 << 20 :]]
    diff_id = "sha256:" + hashlib.sha256(tar).hexdigest()
    process.convert(iter(pieces), diff_id, str(tmp_path / "f"), Format(), Limits())
    squashfs.check(str(tmp_path / "f"))


def test_its_errors_are_raised_here_word_for_word(process: Converter, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="unpacks to more than 1024 bytes") as found:
        convert(process, layer([entry("f", content=bytes(4096))]), tmp_path / "f", limit=1024)
    assert (found.value.identifier, found.value.hint) == (
        "layer-too-large",
        "raise max_layer_size if that is meant",
    )
    assert not os.listdir(tmp_path)


def test_an_error_comes_while_the_layer_is_still_sent(process: Converter, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield layer([entry("../f")])
        while True:
            yield bytes(1 << 20)

    with pytest.raises(ImageError, match="the name"):
        process.convert(endless(), "sha256:" + "0" * 64, str(tmp_path / "f"), Format(), Limits())
    assert not os.listdir(tmp_path)


def test_an_error_that_is_longer_than_a_pipe_comes_while_the_layer_is_still_sent(
    process: Converter, tmp_path: Path
) -> None:
    def endless() -> Iterator[bytes]:
        yield layer([entry("/" + "x" * 500_000)])
        while True:
            yield bytes(1 << 20)

    with pytest.raises(ImageError, match="is absolute"):
        process.convert(endless(), "sha256:" + "0" * 64, str(tmp_path / "f"), Format(), Limits())


def test_an_error_of_the_disk_is_raised_here(process: Converter, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        convert(process, layer([entry("f")]), tmp_path / "missing" / "f")


def test_after_an_error_the_next_layer_is_converted(process: Converter, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        convert(process, b"no tar" * 512, tmp_path / "f")
    convert(process, layer([entry("f")]), tmp_path / "f")


def test_a_transfer_that_breaks_off_leaves_neither_file_nor_process(
    process: Converter, tmp_path: Path
) -> None:
    children = []

    def broken() -> Iterator[bytes]:
        yield layer([entry("f", content=bytes(1 << 20))])[: 1 << 19]
        children.append(child(process))
        raise ConnectionError

    with pytest.raises(ConnectionError):
        process.convert(broken(), "sha256:" + "0" * 64, str(tmp_path / "f"), Format(), Limits())
    assert not os.listdir(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_process_that_was_killed_is_named_as_the_reason_and_leaves_nothing(
    process: Converter, tmp_path: Path
) -> None:
    def killing() -> Iterator[bytes]:
        yield layer([entry("f", content=bytes(1 << 20))])[: 1 << 19]
        while not os.listdir(tmp_path):
            time.sleep(0.01)
        os.kill(child(process), signal.SIGKILL)
        yield bytes(1024)

    with pytest.raises(HostError, match="ended by SIGKILL") as found:
        process.convert(killing(), "sha256:" + "0" * 64, str(tmp_path / "f"), Format(), Limits())
    assert found.value.identifier == "converter-died"
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_everything_that_runs_is_the_parents_to_answer(
    process: Converter, tmp_path: Path, number: signal.Signals
) -> None:
    convert(process, layer([entry("a")]), tmp_path / "a")
    assert os.getsid(child(process)) == child(process)
    os.kill(child(process), number)
    convert(process, layer([entry("b")]), tmp_path / "b")


def test_one_that_does_not_end_is_killed_with_all_that_it_started(
    process: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converter, "_GRACE", 0.0)
    started: list[int] = []

    def broken() -> Iterator[bytes]:
        yield layer([entry("f", content=bytes(1 << 20))])[: 1 << 19]
        own = Path(f"/proc/{child(process)}/task/{child(process)}/children")
        while not started:
            started.extend(map(int, own.read_text().split()))
        os.kill(child(process), signal.SIGSTOP)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        process.convert(broken(), "sha256:" + "0" * 64, str(tmp_path / "f"), Format(), Limits())
    assert not os.listdir(tmp_path)
    while not all(map(ended, started)):
        time.sleep(0.01)


def ended(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except FileNotFoundError:
        return True


def test_a_process_that_cannot_start_is_one_line(
    process: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converter.sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(HostError, match="cannot start a process to convert layers: No such file"):
        convert(process, layer([entry("f")]), tmp_path / "f")


def test_it_has_no_variable_of_the_environment_but_what_python_itself_needs(
    process: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNACE_PASSWORD", "canary")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/python/lib")
    convert(process, layer([entry("f")]), tmp_path / "f")
    environment = Path(f"/proc/{child(process)}/environ").read_bytes()
    assert b"canary" not in environment
    assert b"LD_LIBRARY_PATH=/opt/python/lib" in environment


def test_names_are_encoded_as_by_the_parent(process: Converter, tmp_path: Path) -> None:
    target = os.fsencode(tmp_path) + b"/\xff\xc3\xa4"
    convert(process, layer([entry("f")]), Path(os.fsdecode(target)))
    assert os.path.exists(target)

"""Fixtures of pulls from a registry that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.faults import Front
from integration.puller import Puller


@pytest.fixture
def puller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Puller:
    return Puller(tmp_path, monkeypatch, capsys)


@pytest.fixture
def front() -> Iterator[Front]:
    with Front() as running:
        yield running

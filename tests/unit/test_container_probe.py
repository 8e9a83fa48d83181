"""What is remembered of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.container import probe
from pinnace.container.overlay import Layer

REFUSAL = "cannot create a user namespace"


class Plans:
    """Counts the plans that are tried out, and says what they fail with."""

    def __init__(self) -> None:
        self.tried = 0
        self.failure = REFUSAL

    def failure_of(self, plan: object) -> str:
        self.tried += 1
        return self.failure


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Plans:
    plans = Plans()
    monkeypatch.setattr(probe, "failure_of", plans.failure_of)
    return plans


def test_a_yes_is_remembered_and_a_no_is_asked_again(tmp_path: Path, plans: Plans) -> None:
    machine = probe.machine(str(tmp_path))
    assert machine.overlay(Layer()) == REFUSAL
    plans.failure = ""
    assert (machine.overlay(Layer()), machine.overlay(Layer())) == ("", "")
    assert plans.tried == 2


def test_each_question_has_its_own_answer(tmp_path: Path, plans: Plans) -> None:
    machine = probe.machine(str(tmp_path))
    plans.failure = ""
    assert (machine.overlay(Layer()), machine.fuse("/bin/true")) == ("", "")
    assert machine.overlay(Layer(directory=str(tmp_path))) == ""
    assert plans.tried == 3


def test_a_directory_that_is_not_there_is_left_to_the_start(tmp_path: Path, plans: Plans) -> None:
    missing = Layer(directory=str(tmp_path / "no" / "such"), persistent=True)
    assert probe.machine(str(tmp_path)).overlay(missing) == "" and plans.tried == 0

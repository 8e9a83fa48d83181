"""What is remembered of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.container import probe
from pinnace.container.rootfs import Tools


def test_a_yes_is_remembered_and_a_no_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    answer = "cannot create a user namespace"

    def failure_of(plan: object) -> str:
        nonlocal asked
        asked += 1
        return answer

    monkeypatch.setattr(probe, "failure_of", failure_of)
    tools = Tools("/usr/bin/squashfuse_ll")
    assert not probe.kernel_overlay(tools, str(tmp_path))
    answer = ""
    assert probe.kernel_overlay(tools, str(tmp_path)) and probe.kernel_overlay(tools, str(tmp_path))
    assert asked == 2

"""The timer of `make bench`, as it is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import timer


def _timed(**subject: Any) -> dict[str, Any]:
    job = {"rounds": 2, "subjects": {"it": subject}, "warm_up": False}
    command = [sys.executable, "-IS", timer.__file__]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["it"]
    return found


def test_copies_are_started_together(tmp_path: Path) -> None:
    # Each waits until all are there.
    wait = f'touch {tmp_path}/$$; until [ "$(ls {tmp_path} | wc -l)" -ge 3 ]; do sleep 0.01; done'
    found = _timed(command=["sh", "-c", wait], copies=3)
    assert (len(found["seconds"]), found["error"]) == (2, "")


def test_one_copy_that_fails_is_a_failure(tmp_path: Path) -> None:
    once = f"mkdir {tmp_path}/once"
    found = _timed(command=["sh", "-c", once], copies=2)
    assert "once" in found["error"]


def test_what_is_not_installed_is_named() -> None:
    assert _timed(command=["no-such-command"])["error"] == "not installed"

"""Which jobs have not ended, as programs say it: stand-ins for Slurm's, put first on the PATH."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnace.slurm import jobs
from pinnace.store.retention import Queue

Say = Callable[..., None]
_CONFIG = "Configuration data as of 2026-11-22T05:17:28\nClusterName             = blue\nPrivateData = {}\n"


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Have a program say something and end with a status."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def say(program: str, text: str, status: int = 0, before: str = "") -> None:
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\n{before}\ncat << 'END'\n{text}END\nexit {status}\n")
        path.chmod(0o755)

    say("scontrol", _CONFIG.format("none"))
    return say


def test_jobs_count_until_they_have_ended(say: Say) -> None:
    lasting = "PENDING RUNNING SUSPENDED COMPLETING CONFIGURING REQUEUED SPECIAL_EXIT UNHEARD_OF"
    ended = "COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL DEADLINE REVOKED"
    states = enumerate(f"{lasting} {ended}".split())
    say("squeue", "".join(f"{number} {state}\n" for number, state in states))
    assert jobs.queue() == Queue("blue", frozenset(range(8)), True)


def test_an_empty_queue_is_an_answer(say: Say) -> None:
    say("squeue", "")
    assert jobs.queue() == Queue("blue", frozenset(), True)


@pytest.mark.parametrize(("uid", "complete"), [(0, True), (1000, False)])
def test_jobs_of_others_may_be_hidden_from_users(
    say: Say, uid: int, complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    say("squeue", "")
    say("scontrol", _CONFIG.format("accounts,jobs"))
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert jobs.queue() == Queue("blue", frozenset(), complete)


@pytest.mark.parametrize(
    ("program", "text", "status"),
    [
        ("squeue", "1 RUNNING\n", 1),
        ("squeue", "slurm_load_jobs error: Unable to contact slurm controller\n", 0),
        ("scontrol", "", 1),
        ("scontrol", "SlurmctldHost = a\n", 0),
    ],
)
def test_what_is_no_answer_is_none(say: Say, program: str, text: str, status: int) -> None:
    say("squeue", "1 RUNNING\n")
    say(program, text, status)
    assert jobs.queue() is None


def test_squeue_and_scontrol_are_asked_for_the_same_cluster(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "green")
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    other = 'test -z "$SLURM_CLUSTERS$SQUEUE_STATES" || exit 1'
    say("scontrol", _CONFIG.format("none"), before=other)
    say("squeue", "1 RUNNING\n", before=other)
    assert jobs.queue() == Queue("blue", frozenset({1}), True)


def test_without_a_path_nothing_is_looked_for_in_the_working_directory(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say("scontrol", "", before="echo > ran")
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    jobs.queue()
    assert not Path("ran").exists()


def test_a_controller_that_says_nothing_is_waited_for_a_while(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "TIMEOUT", 0.2)
    say("squeue", "", before="exec sleep 60")
    assert jobs.queue() is None

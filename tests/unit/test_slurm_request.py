"""The request of the Slurm plugin, as the step entry reads it."""

from __future__ import annotations

import pytest

from pinnace import fields
from pinnace.errors import PinnaceError
from pinnace.slurm.request import parse

_SMALLEST = [
    ("protocol", b"1"),
    ("image", b"ubuntu:22.04"),
    ("job-id", b"7"),
    ("step-id", b"4294967291"),
    ("node-tasks", b"2"),
    ("working-directory", b"/home/me"),
]


def _without(key: str) -> list[tuple[str, bytes]]:
    return [field for field in _SMALLEST if field[0] != key]


def test_what_the_user_did_not_say_is_left_open() -> None:
    request = parse(fields.encode(_SMALLEST))
    assert (request.image, request.directory) == ("ubuntu:22.04", "/home/me")
    assert (request.job_id, request.step_id, request.node_tasks) == (7, 4294967291, 2)
    assert (request.workdir, request.remap_root, request.mount_home, request.writable) == (None,) * 4
    assert (request.mounts, request.environment) == ([], {})


def test_lists_keep_their_order_and_choices_their_sense() -> None:
    more = [("mounts", b"/b:/b"), ("mounts", b"/a:/a:ro"), ("writable", b"0"), ("preserved", b"LANG")]
    request = parse(fields.encode([*_SMALLEST, *more, ("remap-root", b"1"), ("workdir", b"..")]))
    assert (request.mounts, request.preserved) == (["/b:/b", "/a:/a:ro"], ["LANG"])
    assert (request.writable, request.remap_root, request.mount_home) == (False, True, None)
    assert request.workdir == ".."


def test_a_variable_may_hold_any_bytes() -> None:
    entries = [b"A=1=2", b"B=\xff\n", b"C=", b"BASH_FUNC_f%%=() { :; }", b"no equals sign", b"=odd", b"N=\0"]
    request = parse(fields.encode([*_SMALLEST, *(("environment", entry) for entry in entries)]))
    assert request.environment == {"A": "1=2", "B": "\udcff\n", "C": "", "BASH_FUNC_f%%": "() { :; }"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (_without("protocol"), "protocol unknown"),
        ([("protocol", b"2"), *_without("protocol")], "protocol 2"),
        (_without("image"), "no image"),
        ([*_without("image"), ("image", b"")], "no image"),
        ([*_without("image"), ("image", b"a\0b")], "NUL"),
        (_without("working-directory"), "working directory"),
        ([*_without("working-directory"), ("working-directory", b"home")], "working directory"),
        ([*_SMALLEST, ("image", b"again")], "image is not expected"),
        ([*_SMALLEST, ("unheard-of", b"")], "unheard-of is not expected"),
        ([*_SMALLEST, ("unshare", b"user")], "unshare names an unknown namespace"),
        ([*_SMALLEST, ("writable", b"yes")], "writable is neither"),
        ([*_without("job-id"), ("job-id", b"-7")], "job-id is not a number"),
        ([*_without("job-id"), ("job-id", "٣".encode())], "job-id is not a number"),
        ([*_without("job-id"), ("job-id", b"7" * 5000)], "job-id is not a number"),
    ],
)
def test_a_request_that_is_not_as_the_protocol_says_is_refused(
    message: list[tuple[str, bytes]], expected: str
) -> None:
    with pytest.raises(PinnaceError, match=expected) as caught:
        parse(fields.encode(message))
    assert "same version" in str(caught.value)


@pytest.mark.parametrize("cut", [1, 7, 9, 30])
def test_a_request_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(PinnaceError):
        parse(fields.encode(_SMALLEST)[:-cut])

"""References: what users write and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace import reference
from pinnace.errors import PinnaceError
from pinnace.reference import DOCKER_HUB, Reference, is_path, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ubuntu", Reference(DOCKER_HUB, "library/ubuntu", "latest")),
        ("ubuntu:24.04", Reference(DOCKER_HUB, "library/ubuntu", "24.04")),
        ("docker://ubuntu", Reference(DOCKER_HUB, "library/ubuntu", "latest")),
        ("a/b", Reference(DOCKER_HUB, "a/b", "latest")),
        ("docker.io/ubuntu", Reference(DOCKER_HUB, "library/ubuntu", "latest")),
        ("index.docker.io#a/b:1", Reference(DOCKER_HUB, "a/b", "1")),
        ("nvcr.io#nvidia/cuda:12", Reference("nvcr.io", "nvidia/cuda", "12")),
        ("nvcr.io/nvidia/cuda:12", Reference("nvcr.io", "nvidia/cuda", "12")),
        ("docker://$oauthtoken@nvcr.io#a/b", Reference("nvcr.io", "a/b", "latest", user="$oauthtoken")),
        ("user@ubuntu:1", Reference(DOCKER_HUB, "library/ubuntu", "1", None, "user")),
        ("127.0.0.1:5000#a", Reference("127.0.0.1:5000", "a", "latest")),
        ("localhost/a/b:c", Reference("localhost", "a/b", "c")),
        ("[::1]:5000/a", Reference("[::1]:5000", "a", "latest")),
        ("myhost#a", Reference("myhost", "a", "latest")),
        ("GHCR.io/a/b", Reference("ghcr.io", "a/b", "latest")),
        (f"ubuntu@{DIGEST}", Reference(DOCKER_HUB, "library/ubuntu", None, DIGEST)),
        (f"me@h.io#a/b:t@{DIGEST}", Reference("h.io", "a/b", "t", DIGEST, "me")),
    ],
)  # fmt: skip
def test_both_ways_of_writing_are_understood(text: str, expected: Reference) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


def test_a_digest_wins_over_a_tag() -> None:
    assert parse(f"ubuntu:1@{DIGEST}").target == DIGEST


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "the image name is missing"),
        ("h.io#", "the image name is missing"),
        ("Ubuntu", "lower case"),
        ("ubuntu:", "is no tag"),
        ("ubuntu:a b", "is no tag"),
        ("ubuntu:" + "a" * 129, "is no tag"),
        ("ubuntu@sha256:12", "64 lower-case hexadecimal digits"),
        ("ubuntu@sha512:" + "0" * 128, "not supported"),
        ("oci://x", "only docker://"),
        ("h.io:0/x", "no registry host"),
        ("h.io:99999/x", "no registry host"),
        ("[:b1]:5000/x", "no registry host"),
        ("a//b", "image names consist of"),
        ("h.io/../x", "image names consist of"),
        ("a/" * 200 + "b", "longer than"),
        ("x y@ubuntu", "no user name"),
    ],
)
def test_what_is_no_reference_says_why(text: str, hint: str) -> None:
    with pytest.raises(PinnaceError) as caught:
        parse(text)
    assert hint in str(caught.value)
    assert str(caught.value).startswith(f"Invalid image reference: {text}")


def test_a_file_without_a_path_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My.sqsh").touch()
    with pytest.raises(PinnaceError, match=r"to use the file, write \./My.sqsh"):
        parse("My.sqsh")


@pytest.mark.parametrize(("text", "path"), [("./a", True), ("/a", True), ("../a", True), ("a/b", False)])
def test_paths_start_with_a_dot_or_a_slash(text: str, path: bool) -> None:
    assert is_path(text) is path


@given(st.text(alphabet="ab1.:/@#-_A[]", max_size=30))
def test_any_text_is_a_stable_reference_or_an_error(text: str) -> None:
    try:
        parsed = parse(text)
    except reference.ReferenceError:
        return
    assert parse(str(parsed)) == parsed


def test_a_password_has_no_place_in_a_reference() -> None:
    with pytest.raises(PinnaceError, match="must not hold a password") as caught:
        parse("ada:c4n4ry@h.io#image:1")
    assert "c4n4ry" not in str(caught.value)

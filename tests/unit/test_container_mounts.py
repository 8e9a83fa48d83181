"""Mounts as users write them."""

from __future__ import annotations

import pytest

from pinnace.container import mounts
from pinnace.container.mounts import Mount
from pinnace.errors import ContainerError, UsageError


def one(text: str) -> Mount:
    (mount,) = mounts.parse(text, "/home/ada")
    return mount


def test_a_source_alone_is_mounted_at_its_own_place() -> None:
    assert one("/data") == Mount("bind", "/data", "/data", ("create=auto", "recursive"))


def test_source_and_target_are_separated_by_a_colon() -> None:
    assert (one("/data:/mnt/data").source, one("/data:/mnt/data").target) == ("/data", "/mnt/data")


def test_a_relative_source_counts_from_the_working_directory() -> None:
    assert one("./set:/data").source == "/home/ada/./set"


def test_flags_are_separated_by_plus() -> None:
    assert one("/a:/b:ro+nosuid+rprivate").options == (
        "create=auto",
        "recursive",
        "read-only",
        "nosuid",
        "private",
    )


def test_bind_leaves_out_what_is_mounted_below() -> None:
    assert "recursive" not in one("/a:/b:bind").options


def test_several_mounts_are_separated_by_commas() -> None:
    assert [mount.target for mount in mounts.parse("/a:/b,/c:/d", "/")] == ["/b", "/d"]


def test_an_empty_tmpfs_may_be_mounted_with_its_own_options() -> None:
    mount = one("tmpfs:/scratch:size=1G+nosuid")
    assert (mount.kind, mount.data, mount.options) == ("tmpfs", ("size=1G",), ("create=directory", "nosuid"))


def test_a_mount_may_be_taken_away() -> None:
    assert one("umount:/dev/shm") == Mount("unmount", "/dev/shm")


@pytest.mark.parametrize(
    "text", ["", ":", "/a:", ":/b", "a:/b", "/a:b", "/a:/b:frob", "/a,,/b", "/a:/", "/a:./", "tmpfs:/..", "/"]
)
def test_a_malformed_mount_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="invalid mount"):
        mounts.parse(text, "/")


def test_a_missing_source_is_named_before_anything_is_started() -> None:
    with pytest.raises(ContainerError, match="source path does not exist: /no/such/path"):
        mounts.check_sources([one("/no/such/path:/x")])


def test_a_missing_source_that_is_optional_is_no_error() -> None:
    mounts.check_sources([one("/no/such/path:/x:nofail")])

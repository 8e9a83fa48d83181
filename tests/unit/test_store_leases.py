"""What keeps an image in the store: the lease of a start, and that of a job between its steps."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eyes import Eyes
from pinnace.store import Image, Store
from pinnace.store.leases import Lease, job_name

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image in a store."""
    store = Store(str(tmp_path / "store"))
    path = Path(store.image_path(DIGEST))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"12345")
    image = Image(DIGEST, str(path), {}, "linux/amd64", 5, (), "h.io/a:1", 1.0)
    Path(store.record_path(DIGEST)).write_bytes(image.to_json())
    return image


def is_held(image: Image) -> bool:
    """Whether another process could not lock the image to remove it."""
    script = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'rb+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", script, image.path], capture_output=True)
    return done.returncode != 0


def left(image: Image) -> list[str]:
    directory = Path(image.path).parents[2] / "leases"
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_an_image_is_held_until_the_lease_is_released(image: Image) -> None:
    with Lease() as lease:
        assert not is_held(image)
        assert lease.take(image)
        assert is_held(image)
    assert not is_held(image)


def test_a_file_that_another_host_has_removed_is_not_there(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(fcntl, "flock", stale)
    with Lease() as lease:
        assert not lease.take(image)


def test_many_hold_an_image_at_once(image: Image) -> None:
    with Lease() as one, Lease() as other:
        assert one.take(image) and other.take(image)
        one.release()
        assert is_held(image)


def test_the_lease_lasts_as_long_as_its_descriptor_is_open_anywhere(image: Image) -> None:
    with Lease() as lease:
        assert lease.take(image) and lease.descriptor is not None
        keeper = subprocess.Popen(["sleep", "60"], pass_fds=[lease.descriptor])
    assert is_held(image)
    keeper.kill()
    keeper.wait()
    assert not is_held(image)


def test_an_image_that_was_removed_is_not_held(image: Image) -> None:
    os.unlink(image.path)
    assert not Lease().take(image)


def test_an_image_of_which_only_the_file_is_left_is_not_held(image: Image) -> None:
    Path(image.path).with_suffix(".json").unlink()
    lease = Lease()
    assert not lease.take(image) and lease.descriptor is None


def test_an_image_that_is_replaced_while_it_is_locked_is_held_as_it_is_now(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def replace_it(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        Path(image.path + ".new").write_bytes(b"54321")
        os.rename(image.path + ".new", image.path)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replace_it)
    with Lease() as lease:
        assert lease.take(image) and is_held(image)


def test_who_removes_an_image_is_waited_for(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    remover = os.open(image.path, os.O_RDWR)
    fcntl.flock(remover, fcntl.LOCK_EX)
    monkeypatch.setattr("time.sleep", lambda _: os.close(remover))
    with Lease() as lease:
        assert lease.take(image) and lease.descriptor is not None


def test_nobody_can_keep_a_container_from_starting(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with open(image.path, "rb") as hostile:
        fcntl.flock(hostile, fcntl.LOCK_EX)
        lease = Lease()
        assert lease.take(image) and lease.descriptor is None


def test_an_image_whose_removal_takes_long_is_not_held(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    Path(image.path).with_suffix(".json").unlink()
    with open(image.path, "rb") as remover:
        fcntl.flock(remover, fcntl.LOCK_EX)
        assert not Lease(job_name(7, "blue")).take(image)
    assert left(image) == []


def test_a_file_system_without_locks_is_no_obstacle(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lease = Lease()
    assert lease.take(image) and lease.descriptor is None


def test_a_lease_notes_the_last_use_and_nothing_else(image: Image) -> None:
    os.utime(image.path, (1000, 2000))
    with Lease() as lease:
        assert lease.take(image)
    status = os.stat(image.path)
    assert status.st_atime > 1e9 and status.st_mtime == 2000


def test_a_job_leaves_a_lease_and_renews_it(image: Image) -> None:
    with Lease(job_name(7, "blue")) as lease:
        assert lease.take(image)
        assert left(image) == ["1" * 64 + "-7-blue"]
        path = Path(image.path).parents[2] / "leases" / left(image)[0]
        os.utime(path, (1000, 1000))
        assert lease.take(image)
    assert path.stat().st_mtime > 1e9 and path.stat().st_size == 0


def test_what_no_job_asks_for_leaves_no_lease(image: Image) -> None:
    with Lease() as lease:
        assert lease.take(image)
    assert left(image) == []


@pytest.mark.parametrize("cluster", ["", "../../x", "a/b", "a\nb", "a" * 65, "\udcff", "ä"])
def test_no_name_of_a_cluster_leads_out_of_the_store(cluster: str) -> None:
    assert job_name(7, cluster) == "7-unknown"


def test_a_lease_of_a_job_is_written_through_no_link(image: Image, tmp_path: Path) -> None:
    directory = Path(image.path).parents[2] / "leases"
    directory.mkdir()
    (directory / ("1" * 64 + "-7-blue")).symlink_to(tmp_path / "victim")
    with Lease(job_name(7, "blue")) as lease:
        assert lease.take(image)
    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user needs root")
def test_a_reader_of_anothers_store_holds_its_images(image: Image, ordinary_eyes: Eyes) -> None:
    with ordinary_eyes(), Lease(job_name(7, "blue")) as lease:
        assert lease.take(image)
        assert is_held(image)
    assert left(image) == []

"""What keeps an image in the store while it is used (docs/architecture.md). On the launch path.

A start's lease is a shared flock(2) on the image file. The FUSE server of the container inherits
the descriptor, so that the lease ends with the container, by whatever death, and with the host on a
network file system; there is nothing to renew, and readers of a store that is not theirs to write
can take it. Whoever removes an image needs the exclusive lock.

Between the steps of a job its image is not mounted. Each step leaves an empty file
``leases/<manifest digest>-<job ID>-<cluster>``, which counts while that job is in Slurm's queue.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pinnace import digest as digests
from pinnace.basis import Basis, Lock
from pinnace.store.images import Image

DIRECTORY = "leases"

#: Attempts at a lock and the seconds between them: who removes an image holds it that long at most.
#: Somebody who may read the file could hold it for ever, which must not keep a container from starting.
_ATTEMPTS = 50
_PAUSE = 0.02
#: Seconds by which the clocks of hosts may differ.
SKEW = 3600.0
#: Seconds for which the time of the last use is good enough as it is.
_STALE = 60.0
#: Names of clusters are of letters, digits and these (slurm.conf(5)); a name from a job is not believed.
_CLUSTER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_CLUSTER_LENGTH = 64


class Lease:
    """One start's hold on an image. ``descriptor`` is what the container's server has to inherit.

    It stays None if the file system cannot lock, or somebody holds the file exclusively.
    """

    def __init__(self, job: str = "", basis: Basis | None = None) -> None:
        """``job`` is the ``job_name`` for which the image is to be kept beyond the container's end.

        ``basis`` gets to know what was locked.
        """
        self._job = job
        self._basis = basis or Basis()
        self.descriptor: int | None = None

    def take(self, image: Image) -> bool:
        """Hold ``image`` from now on. False: it has just been removed, or replaced."""
        # The record goes first: what has none is being removed, however long that takes.
        record = f"{os.path.splitext(image.path)[0]}.json"
        return self.take_file(image.path, record, job_leases(image.store, digests.hex_of(image.digest)))

    def take_file(self, path: str, witness: str, jobs: str) -> bool:
        """Hold the file at ``path`` from now on, and what it stands for, instead of what was held.

        False: it is not there, or ``witness`` is not. ``jobs`` is where jobs leave theirs; empty: nowhere.
        """
        try:
            descriptor = hold(path)
        except FileNotFoundError:
            return False
        is_there = os.path.exists(witness)
        if descriptor is not None:
            if not is_there:
                os.close(descriptor)
                return False
            self.release()
            self.descriptor = descriptor
            self._basis.lock = Lock(path, witness, jobs)
            _touch(descriptor)
        else:
            self._basis.refuse("the image cannot be locked")
        if self._job and jobs and is_there:
            _leave(jobs + self._job)
        return is_there

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the image."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def job_name(job: int, cluster: str) -> str:
    """What a job is called in the name of its lease; ``cluster`` is the job's word for it."""
    if not cluster or len(cluster) > _CLUSTER_LENGTH or not _CLUSTER.issuperset(cluster):
        cluster = "unknown"
    return f"{job}-{cluster}"


def parsed(name: str) -> tuple[str, int, str] | None:
    """The digits of the image's digest, job and cluster in the name of a job's lease; None: it is none."""
    image, _, rest = name.partition("-")
    job, _, cluster = rest.partition("-")
    if not digests.is_hex(image) or not (job.isascii() and job.isdigit()) or not cluster:
        return None
    return image, int(job), cluster


def hold(path: str) -> int | None:
    """A descriptor that keeps the file at ``path`` from being removed for as long as it is open.

    None: it cannot be had; its file system cannot lock, or somebody holds the file exclusively.
    Raises FileNotFoundError if the file is not there, or not any more.
    """
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            _raise_if_stale(error)
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # What was locked may have been removed before.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            time.sleep(_PAUSE)
        except FileNotFoundError:
            os.close(descriptor)
            raise
        except OSError as error:
            os.close(descriptor)
            _raise_if_stale(error)
            return None
        os.close(descriptor)
    return None


def _raise_if_stale(error: OSError) -> None:
    """Another host has removed the file: on a network file system it is not there in another way."""
    if error.errno == errno.ESTALE:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), error.filename) from None


@contextmanager
def alone(path: str, directory: int | None = None) -> Iterator[bool]:
    """Lock a file as one may who removes it. False: somebody holds it, or it cannot be locked.

    True if it is not there. ``path`` may be relative to an open ``directory``; it must be no link.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            # NFS locks for writing what is open for writing alone.
            descriptor = os.open(path, flags | os.O_RDWR, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            descriptor = os.open(path, flags, dir_fd=directory)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)


def _touch(descriptor: int) -> None:
    """Note the use as the time of the file's last access; for others than the owner the kernel does it."""
    status = os.fstat(descriptor)
    now = time.time_ns()
    if abs(now - status.st_atime_ns) > _STALE * 1e9:
        with suppress(OSError):
            os.utime(descriptor, ns=(now, status.st_mtime_ns))


def _leave(path: str) -> None:
    """Write a job's lease, or renew it. A store that is not ours to write to goes without."""
    with suppress(OSError):
        try:
            descriptor = _created(path)
        except FileNotFoundError:
            os.mkdir(os.path.dirname(path))
            descriptor = _created(path)
        with suppress(OSError):
            os.utime(descriptor)
        os.close(descriptor)


def job_leases(store: str, name: str) -> str:
    """The beginning of the paths of jobs' leases of what has the digits ``name``; the job's name follows."""
    return os.path.join(store, DIRECTORY, f"{name}-")


def _created(path: str) -> int:
    # Others may make files there too: one that is a pipe is not waited for.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags, 0o644)

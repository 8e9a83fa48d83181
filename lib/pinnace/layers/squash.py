"""The programs of squashfs-tools-ng: tar2sqfs and sqfs2tar as streams."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from pinnace.config import Settings
from pinnace.errors import HostError, ImageError, PinnaceError, StoreError
from pinnace.layers import tar
from pinnace.layers.stream import ByteStream

_READ = 1 << 18
#: Bytes in the pipes, so that neither end waits for the other at every turn.
_PIPE = 1 << 20
#: Bytes of a program's messages that are looked at.
_MESSAGES = 4096


@dataclass(frozen=True)
class Format:
    """How squashfs files are written. ``block_size`` in bytes; ``level`` is ignored for lz4."""

    compressor: str = "zstd"
    level: int = 1
    block_size: int = 128 << 10
    jobs: int = 1

    @classmethod
    def of(cls, settings: Settings, streams: int | None = None) -> Format:
        """What the settings say.

        The processors are shared by ``streams``, as many as there are connections unless given.
        """
        processors = len(os.sched_getaffinity(0))
        return cls(
            compressor=settings["compressor"],
            level=settings["compression_level"],
            block_size=settings["block_size"],
            jobs=max(1, processors // (streams or max(1, settings["connections"]))),
        )

    def options(self) -> list[str]:
        level = [] if self.compressor == "lz4" else ["--comp-extra", f"level={self.level}"]
        return [
            "--compressor", self.compressor, *level,
            "--block-size", str(self.block_size),
            "--num-jobs", str(self.jobs),
        ]  # fmt: skip


class SquashWriter:
    """Writes a squashfs file from a tar stream. The file is complete once the block ends well.

    If it ends with an exception tar2sqfs is ended and ``target`` removed. If this process dies
    tar2sqfs sees the end of its input and ends as well; it never renames anything.
    """

    def __init__(self, target: str, form: Format) -> None:
        self.target = target
        try:
            # Held so that after a failure the space is still taken, see _failure.
            self._file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise storage_error(target, error) from None
        self._messages = os.memfd_create("tar2sqfs")
        # The defaults are those of directories that are not listed, see layers/__init__.
        defaults = f"uid=0,gid={tar.IMPLICIT_GROUP},mode=0755,mtime=0"
        command = [
            "tar2sqfs",
            "--quiet",
            "--force",
            "--no-skip",
            "--defaults",
            defaults,
            *form.options(),
            target,
        ]
        try:
            self._process = _start(command, self._messages, stdin=subprocess.PIPE)
        except HostError:
            self._close()
            os.unlink(target)
            raise
        assert self._process.stdin is not None
        self._input = self._process.stdin
        widen(self._input.fileno())

    def __enter__(self) -> SquashWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
            else:
                self._abandon()
        finally:
            self._close()

    def write(self, data: bytes | memoryview) -> None:
        """Pass on a part of the tar stream. Raises StoreError or ImageError if tar2sqfs gave up."""
        try:
            self._input.write(data)
        except BrokenPipeError:
            self._process.wait()
            raise self._failure() from None

    def add(self, entry: tar.Entry, body: bytes = b"") -> None:
        """Write a whole entry."""
        self.write(tar.header(entry))
        self.write(body + bytes(tar.padding(len(body))))

    def _finish(self) -> None:
        try:
            self.write(tar.END)
            self._input.close()
        except BrokenPipeError:
            pass  # its exit status tells more
        except BaseException:
            self._abandon()
            raise
        if self._process.wait() != 0:
            failure = self._failure()
            self._abandon()
            raise failure

    def _close(self) -> None:
        os.close(self._messages)
        os.close(self._file)

    def _abandon(self) -> None:
        self._process.kill()
        with contextlib.suppress(OSError):
            self._input.close()
        self._process.wait()
        with contextlib.suppress(OSError):
            os.unlink(self.target)

    def _failure(self) -> PinnaceError:
        try:
            # tar2sqfs only says "I/O error", so ask the file system ourselves.
            os.posix_fallocate(self._file, os.fstat(self._file).st_size, _PROBE)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG):
                return storage_error(self.target, error)
        said = _said(self._messages)
        status = self._process.returncode
        return ImageError(
            f"tar2sqfs failed with status {status}", context=said or None, identifier="conversion"
        )


@contextlib.contextmanager
def squash_reader(path: str) -> Iterator[ByteStream]:
    """The squashfs file ``path`` as a tar stream. Raises ImageError if it cannot be read whole.

    A block that is left with an exception, or early, ends sqfs2tar.
    """
    messages = os.memfd_create("sqfs2tar")
    process = _start(["sqfs2tar", "--no-skip", "--root-becomes", ".", path], messages, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout
    widen(output.fileno())
    try:
        stream = ByteStream(iter(lambda: os.read(output.fileno(), _READ), b""))
        yield stream
        stream.drain()
        if process.wait() != 0:
            raise ImageError(
                f"{path} cannot be read",
                context=_said(messages),
                hint="remove it and pull again",
                identifier="damaged-image",
            )
    finally:
        process.kill()
        output.close()
        process.wait()
        os.close(messages)


_ROOM = "make room, or set `store` to a directory with more"
#: Bytes to ask for when a write has failed: more than tar2sqfs writes at once.
_PROBE = 2 << 20


def storage_error(path: str, error: OSError) -> StoreError:
    """``error`` on writing ``path``, in words."""
    if error.errno == errno.ENOSPC:
        return StoreError(f"no space left at {os.path.dirname(path)}", hint=_ROOM, identifier="disk-full")
    if error.errno == errno.EDQUOT:
        return StoreError(
            f"the disk quota is used up at {os.path.dirname(path)}", hint=_ROOM, identifier="disk-full"
        )
    return StoreError(f"cannot write {path}: {error.strerror}", hint="check the store's owner and mode")


def sync(path: str) -> None:
    """Have the kernel write a file, or a directory's names, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: str) -> None:
    """Have the kernel write all of the file system of ``path`` to the disk: syncfs(2). Raises OSError."""
    import ctypes

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def _start(
    command: list[str], messages: int, *, stdin: int | None = None, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    # The epoch goes into the superblock: the same layers must give the same bytes.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
    try:
        return subprocess.Popen(
            command,
            bufsize=_READ,  # headers and small files go together
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=messages,
            env=environment,
        )
    except FileNotFoundError:
        raise HostError(
            f"{command[0]} is not installed",
            hint="install squashfs-tools-ng (apt install squashfs-tools-ng)",
            identifier="missing-program",
        ) from None
    except OSError as error:
        raise HostError(f"cannot run {command[0]}: {error.strerror}") from None


def widen(pipe: int) -> None:
    # Linux's number: fcntl has the name only since Python 3.10. Refused to users with many pipes.
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, 1031, _PIPE)


def _said(messages: int) -> str:
    return os.pread(messages, _MESSAGES, 0).decode("utf-8", "replace").strip().replace("\n", "; ")

"""A process that converts layers, one after the other.

Reading a tar is work for Python itself, and threads have to take turns at that: four layers at a
time took five times as long on sixteen processors as each stage alone. So every layer that is
large has an interpreter of its own. This module is both ends of it.

The parent writes, for each layer, a line of JSON that says what to do, and the blob in frames: four
bytes of length, most significant first, and the data; an empty frame ends it. The child answers
with a line of JSON: null, or the error, after which it ends. An input that ends within a layer
tells it to give up. It has a session of its own: a signal from the terminal is the parent's to
answer, and what it starts ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from pinnace import errors
from pinnace.errors import HostError, PinnaceError
from pinnace.layers.conversion import Limits, convert
from pinnace.layers.squash import Format, widen

_LENGTH = 4
# Left at once: after an error a thread may still read standard input, and an interpreter that
# takes itself down in an orderly way aborts over it.
_CODE = (
    "import json, os, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from pinnace.layers import converter; os._exit(converter.main())"
)
#: What of the environment the interpreter itself needs: its libraries, and how names are encoded.
#: Nothing else decides how a layer is converted, and no credentials are in it.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PINNACE_DEBUG")
#: Seconds in which a process that is told to give up removes what it has begun.
_GRACE = 2.0


class Converter:
    """The parent's end. The process starts with the first layer; ``close`` ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def convert(
        self, chunks: Iterator[bytes], diff_id: str, target: str, form: Format, limits: Limits
    ) -> None:
        """As ``conversion.convert``; what ``chunks`` raises is raised here as well."""
        process = self._process = self._process or _started()
        try:
            request = {"diff_id": diff_id, "target": target, "form": asdict(form), "limits": limits._asdict()}
            going = _sent(process, json.dumps(request).encode() + b"\n")
            while going and (chunk := next(chunks, None)) is not None:
                if chunk:
                    going = _sent(process, len(chunk).to_bytes(_LENGTH, "big"), chunk)
            if going:
                _sent(process, bytes(_LENGTH))
            answer = _answer(process)
            if answer is not None:
                raise _error(answer)
        except BaseException:
            self.close()
            with suppress(OSError):
                os.unlink(target)  # of a process that was killed
            raise

    def close(self) -> None:
        """End the process and what it has begun."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # tar2sqfs with it
            process.wait()
        process.stdout.close()


def _started() -> subprocess.Popen[bytes]:
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-IS", "-c", _CODE, json.dumps([package, *sys.path])]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(
            f"cannot start a process to convert layers: {error.strerror}",
            hint="check the limits of memory and processes (ulimit -a)",
        ) from None
    assert process.stdin is not None
    widen(process.stdin.fileno())
    return process


def _sent(process: subprocess.Popen[bytes], *parts: bytes) -> bool:
    """Write to the process; False if it has ended."""
    assert process.stdin is not None
    try:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(process.stdin.fileno(), left) :]
    except BrokenPipeError:
        return False
    return True


def _answer(process: subprocess.Popen[bytes]) -> dict[str, str | None] | None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        status = process.wait()
        killed = status == -signal.SIGKILL
        raise HostError(
            f"a process that converts layers ended {_how(status)}",
            hint="it may have been killed for want of memory; try again" if killed else "try again",
            identifier="converter-died",
        )
    answer: dict[str, str | None] | None = json.loads(line)
    return answer


def _how(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _error(answer: dict[str, str | None]) -> PinnaceError:
    kind: type[PinnaceError] = getattr(errors, str(answer["kind"]))
    return kind(
        str(answer["message"]),
        context=answer["context"],
        hint=answer["hint"],
        identifier=answer["error"],
    )


class _Ended(Exception):
    """The parent has given up, or is no more."""


def main() -> int:
    """The child: convert what standard input says until it ends. Returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Slurm's reach each process of a step; the parent decides
    source = sys.stdin.buffer
    while line := source.readline():
        request = json.loads(line)
        error: PinnaceError | None = None
        try:
            form, limits = Format(**request["form"]), Limits(**request["limits"])
            convert(_frames(source), request["diff_id"], request["target"], form, limits)
        except _Ended:
            return 1
        except PinnaceError as found:
            error = found
        except Exception as found:
            if "PINNACE_DEBUG" in os.environ:
                raise
            error = errors.unexpected(found)
        if error is not None:
            # The parent may still be sending. Now it is told to read: an answer with names of the
            # layer may be longer than a pipe holds.
            os.close(source.fileno())
            _say({"kind": type(error).__name__, **error.as_dict()})
            return 1
        _say(None)
    return 0


def _say(answer: dict[str, Any] | None) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _frames(source: BinaryIO) -> Iterator[bytes]:
    while True:
        head = source.read(_LENGTH)
        length = int.from_bytes(head, "big")
        data = source.read(length)
        if len(head) < _LENGTH or len(data) < length:
            raise _Ended
        if not data:
            return
        yield data

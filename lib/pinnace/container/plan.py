"""A plan: everything that was decided about a container, as flat data (docs/protocol.md).

A plan is a list of operations in the order in which ``pinnace-exec`` carries them out. Nothing
here touches the machine: a plan can be compared, printed and cached.
"""

from __future__ import annotations

from pinnace import fields
from pinnace.tuples import NamedTuple

VERSION = "1"

#: Operations whose value is one piece of bytes instead of a list of arguments.
_WHOLE = frozenset(
    ("environment", "default", "unset", "environment-file", "working-directory-file", "seccomp")
)
#: Operations whose last argument is content and is not terminated.
_CONTENT = frozenset(("file", "optional-file", "prepend"))


class Operation(NamedTuple):
    """One step of a plan."""

    name: str
    arguments: tuple[bytes, ...] = ()

    def encode(self) -> tuple[str, bytes]:
        if self.name in _WHOLE:
            return self.name, b"".join(self.arguments)
        if self.name in _CONTENT:
            return self.name, b"\0".join(self.arguments)
        return self.name, b"".join(argument + b"\0" for argument in self.arguments)


class Plan:
    """Operations, in order."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(self, name: str, *arguments: str | bytes | int) -> None:
        """Append an operation. Text is encoded as the file system's names are."""
        self.operations.append(Operation(name, tuple(_bytes(argument) for argument in arguments)))

    def encode(self) -> bytes:
        """The message that ``pinnace-exec`` reads."""
        return fields.encode(operation.encode() for operation in self.operations)

    def as_data(self) -> list[list[str]]:
        """The plan for people and JSON: one list for each operation, its name first."""
        return [[operation.name, *map(_text, operation.arguments)] for operation in self.operations]


def _bytes(argument: str | bytes | int) -> bytes:
    if isinstance(argument, bytes):
        return argument
    return str(argument).encode("utf-8", "surrogateescape")


def _text(argument: bytes) -> str:
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        return argument.hex()

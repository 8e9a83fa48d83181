"""``environ.d/*.env``: variables that every container has, in enroot's format. On the launch path."""

from __future__ import annotations

from pinnace.errors import ConfigurationError

#: Variables that enroot keeps for itself.
_RESERVED = "ENROOT_"


def parse(text: str, path: str) -> list[tuple[str, str]]:
    """Names and values of the ``NAME=value`` lines of a file, in their order.

    ``${NAME}`` in a value stands for the caller's variable and is left to ``template.complete``. One pair
    of quotes around a value is taken away. Raises ConfigurationError naming file and line.
    """
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.isascii() or not name.isidentifier() or "\0" in line:
            raise ConfigurationError(
                f"`{line}` is no variable",
                context=f"{path}, line {number}",
                hint="NAME=value is expected, or a comment that begins with #",
                identifier="environ-syntax",
            )
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if not name.startswith(_RESERVED):
            pairs.append((name, value))
    return pairs

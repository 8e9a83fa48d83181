"""How the commands of the store say things."""

from __future__ import annotations

from collections.abc import Sequence


def age(seconds: float) -> str:
    """How long something has been so."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def count(number: int, thing: str) -> str:
    """``2 layers``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in columns; those of numbers, marked by a ``>`` before their title, end at the right."""
    right = [title.startswith(">") for title in rows[0]]
    rows = [[title.lstrip(">") for title in rows[0]], *rows[1:]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right)
        ).rstrip()
        for row in rows
    ]

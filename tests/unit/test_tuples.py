"""The launch path's NamedTuple does what typing's does."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from pinnace import tuples


class Ours(tuples.NamedTuple):
    name: str
    size: int = 3
    mode: str = "r"


class Theirs(typing.NamedTuple):
    name: str
    size: int = 3
    mode: str = "r"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("a",), {}),
        (("a", 1, "w"), {}),
        ((), {"name": "a", "mode": "w"}),
        (("a",), {"size": 4}),
    ],
)
def test_it_is_made_and_read_as_the_standard_one(
    values: tuple[typing.Any, ...], named: dict[str, typing.Any]
) -> None:
    ours, theirs = Ours(*values, **named), Theirs(*values, **named)
    assert ours == tuple(theirs)
    assert (ours.name, ours.size, ours.mode) == (theirs.name, theirs.size, theirs.mode)
    assert (ours._fields, ours._asdict()) == (theirs._fields, theirs._asdict())
    assert repr(ours).replace("Ours", "Theirs") == repr(theirs)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        (("a", 1, "w", "x"), {}),
        (("a",), {"name": "b"}),
        (("a",), {"nmae": "b"}),
    ],
)
def test_wrong_values_are_refused(values: tuple[typing.Any, ...], named: dict[str, typing.Any]) -> None:
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_a_field_is_replaced_in_a_copy_and_none_can_be_set() -> None:
    ours = Ours("a")
    assert ours._replace(size=5) == Ours("a", 5) and ours.size == 3
    with pytest.raises(AttributeError):
        ours.size = 6  # type: ignore[misc]


def test_copies_are_of_the_same_kind() -> None:
    for copied in (copy.deepcopy(Ours("a")), pickle.loads(pickle.dumps(Ours("a")))):
        assert copied == Ours("a") and type(copied) is Ours

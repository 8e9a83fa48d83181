"""The format between Python and C."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace import fields
from pinnace.errors import PinnaceError

keys = st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True)


@given(st.lists(st.tuples(keys, st.binary(max_size=200))))
def test_what_is_encoded_is_decoded_in_the_same_order(pairs: list[tuple[str, bytes]]) -> None:
    assert list(fields.decode(fields.encode(pairs))) == pairs


@given(st.lists(st.tuples(keys, st.binary(max_size=20)), min_size=1), st.integers(min_value=1))
def test_a_message_that_is_cut_short_is_refused(pairs: list[tuple[str, bytes]], cut: int) -> None:
    message = fields.encode(pairs[-1:])
    with pytest.raises(PinnaceError):
        list(fields.decode(message[: -(1 + cut % (len(message) - 1))]))


def test_a_key_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(PinnaceError, match="malformed"):
        list(fields.decode(b"\0\0\0\1\0\0\0\0\xff"))


def test_a_message_over_the_limit_is_refused() -> None:
    with pytest.raises(PinnaceError, match="limit"):
        fields.encode([("environment", b"x" * fields.MAX_MESSAGE)])

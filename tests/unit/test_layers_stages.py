"""A stage beside the others: what passes, what is raised, and how it ends."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pinnace.layers.stages import ahead


def test_all_pieces_arrive_in_order() -> None:
    assert list(ahead(iter(b"%d" % number for number in range(1000)))) == [b"%d" % n for n in range(1000)]


def test_stages_can_be_chained() -> None:
    assert b"".join(ahead(piece.upper() for piece in ahead(iter([b"a", b"b"])))) == b"AB"


def test_an_error_comes_after_the_pieces_before_it() -> None:
    def broken() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("broken")

    pieces = ahead(broken())
    assert next(pieces) == b"a"
    with pytest.raises(ValueError, match="broken"):
        next(pieces)


def test_no_more_is_made_than_a_few_pieces_ahead() -> None:
    made = []
    last = threading.Event()

    def counted() -> Iterator[bytes]:
        for number in range(100):
            made.append(number)
            if number == 4:  # the first taken, three that wait, one in the hand
                last.set()
            yield b"x"

    pieces = ahead(counted())
    next(pieces)
    assert last.wait(60)
    assert len(made) == 5
    pieces.close()


def test_closing_it_ends_the_thread_and_closes_what_it_read() -> None:
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    pieces = ahead(ahead(endless()))
    next(pieces)
    pieces.close()
    assert closed.wait(60)


def test_after_an_error_between_two_stages_the_first_ends_without_a_collection() -> None:
    """What it reads may be a registry's connection."""
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    def broken(pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield next(pieces)
        raise ValueError

    gc.disable()
    try:
        with suppress(ValueError):
            list(ahead(broken(ahead(endless()))))
        assert closed.wait(60)
    finally:
        gc.enable()

"""Inodes of small files, which most files are: basic ones without blocks, of files that lie in a fragment.

Those of a directory's files often follow one another, and are dealt with as columns then: a few
operations for all of them instead of many for each.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable

from pinnace.squashfs.format import PLAIN_FILE

_WORDS = PLAIN_FILE.size // 4
#: The words of an inode that change: owner and group, number, start and fragment.
_OWNERS, _NUMBER, _START, _FRAGMENT = (slice(word, None, _WORDS) for word in (1, 3, 4, 5))


def rewritten(inodes: bytes, number: int, fragment: Callable[[int], int]) -> bytes:
    """The same for root's files, numbered from ``number`` on; ``fragment`` gives fragments' new numbers."""
    words = array("I", inodes)
    if sys.byteorder == "big":
        words.byteswap()
    count = len(words) // _WORDS
    words[_OWNERS] = words[_START] = array("I", bytes(4 * count))
    words[_NUMBER] = array("I", range(number, number + count))
    words[_FRAGMENT] = array("I", map(fragment, words[_FRAGMENT]))
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()

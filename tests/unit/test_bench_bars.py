"""The bars of `make bench`."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bench.bars import Group, drawn
from bench.measure import Series
from bench.pictures import PICTURES

_NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}


def test_bars_are_as_long_as_their_medians() -> None:
    group = Group("start", [("pinnace", Series((0.01, 0.02, 0.03))), ("other", Series((0.01,)))])
    picture = ElementTree.fromstring(drawn([group]))
    first, second = (float(bar.attrib["width"]) for bar in picture.findall("svg:rect", _NAMESPACE))
    assert first == 2 * second
    assert [text.text for text in picture.findall("svg:text", _NAMESPACE)] == [
        "start, ms", "pinnace", "20", "other", "10",
    ]  # fmt: skip


def test_names_cannot_end_what_they_stand_in() -> None:
    assert ElementTree.fromstring(drawn([Group("a < b & c", [("</text>", Series((1.0,)))])]))


def test_each_picture_finds_its_values_by_their_names() -> None:
    names = {
        "steps": "pinnace, unpack, 1 task",
        "io": "pinnace, unpack, torch, warm",
        "memory": "pinnace, unpack: page cache",
    }
    for table, name in names.items():
        assert re.search(">pinnace, unpack</text>", PICTURES[table]({name: Series((1.0,))}))

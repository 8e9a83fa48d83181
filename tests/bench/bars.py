"""Bars of medians with their ranges, side by side with what they are compared with, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.measure import Series

_WIDTH, _LABELS, _NUMBERS = 720, 330, 60
_LINE, _BAR, _TITLE, _GAP = 18, 10, 24, 10
_OURS, _OTHERS = "#1f6fb4", "#c4561d"
#: Grey is readable on white and on black.
_STYLE = "font: 11px sans-serif; fill: #808080"


@dataclass(frozen=True)
class Group:
    """Bars over one axis, from 0. ``unit``: what a value is multiplied with, and what it is then."""

    title: str
    bars: Sequence[tuple[str, Series]]
    unit: tuple[float, str] = (1000.0, "ms")


def drawn(groups: Sequence[Group]) -> str:
    """The groups below each other, the whole of an SVG file."""
    parts: list[str] = []
    top = 0.0
    for group in (group for group in groups if group.bars):
        parts += _group(group, top)
        top += _TITLE + _LINE * len(group.bars) + _GAP
    size = f'viewBox="0 0 {_WIDTH} {top:g}" width="{_WIDTH}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *parts, "</svg>", ""])


def _group(group: Group, top: float) -> list[str]:
    factor, unit = group.unit
    largest = max(series.median for _, series in group.bars)
    scale = (_WIDTH - _LABELS - _NUMBERS) / largest
    found = [_text(0, top + 16, f"{group.title}, {unit}", "start", "; font-weight: bold")]
    for number, (name, series) in enumerate(group.bars):
        middle = top + _TITLE + _LINE * (number + 0.5)
        colour = _OURS if name.startswith("pinnace") else _OTHERS
        length = series.median * scale
        # A range beyond the longest bar is cut off: it would make all others short.
        low, high = (min(value * scale, largest * scale) for value in (series.minimum, series.maximum))
        found += [
            _text(_LABELS - 6, middle + 4, name, "end"),
            f'<rect x="{_LABELS}" y="{middle - _BAR / 2:g}" width="{length:.1f}" height="{_BAR}" '
            f'fill="{colour}"/>',
            f'<path d="M{_LABELS + low:.1f} {middle:g}H{_LABELS + high:.1f}" stroke="#808080"/>',
            _text(_WIDTH, middle + 4, f"{series.median * factor:.3g}", "end"),
        ]
    return found


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" style="{_STYLE}{more}">{escape(text)}</text>'

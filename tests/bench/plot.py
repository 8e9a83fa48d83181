"""Curves of medians with their ranges on logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure import Series

_WIDTH, _HEIGHT = 300, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 32, 16, 44
_COLOURS = ("#1f6fb4", "#c4561d")
#: Grey is readable on white and on black.
_STYLE = "font: 11px sans-serif; fill: #808080"


@dataclass(frozen=True)
class Curve:
    """What was measured at some numbers."""

    label: str
    points: Sequence[tuple[int, Series]]


@dataclass(frozen=True)
class Panel:
    """Curves over the same axes."""

    horizontal: str
    vertical: str
    curves: Sequence[Curve]


def drawn(panels: Sequence[Panel]) -> str:
    """The panels side by side, the whole of an SVG file."""
    width = _WIDTH * len(panels)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}">']
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * _WIDTH} 0)">', *_Axes(panel).lines(), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


class _Axes:
    """One panel while it is drawn: from numbers to places."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        points = [point for curve in panel.curves for point in curve.points]
        self._across = _decades([value for value, _ in points])
        self._up = _decades([value for _, series in points for value in series.values])

    def lines(self) -> list[str]:
        found = [*self._frame()]
        for number, (colour, curve) in enumerate(zip(_COLOURS, self._panel.curves)):
            found += self._curve(curve, colour)
            found.append(_text(_LEFT + 8, _TOP + 14 * (number + 1), curve.label, "start", colour))
        return found

    def _x(self, value: float) -> float:
        low, high = self._across
        return _LEFT + (math.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        low, high = self._up
        return _HEIGHT - _BOTTOM - (math.log10(value) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def _frame(self) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        found = []
        for power in range(self._up[0], self._up[1] + 1):
            y = self._y(10**power)
            found.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#808080" stroke-opacity="0.3"/>')
            found.append(_text(_LEFT - 5, y + 4, f"{10.0**power:g}", "end"))
        for power in range(self._across[0], self._across[1] + 1):
            x = self._x(10**power)
            found.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#808080" stroke-opacity="0.3"/>')
            found.append(_text(x, bottom + 16, f"{10**power:,}", "middle"))
        found.append(_text((_LEFT + right) / 2, _HEIGHT - 8, self._panel.horizontal, "middle"))
        middle = (_TOP + bottom) / 2
        turned = (
            f'<g transform="rotate(-90 12 {middle})">{_text(12, middle, self._panel.vertical, "middle")}</g>'
        )
        return [*found, turned]

    def _curve(self, curve: Curve, colour: str) -> list[str]:
        places = [(self._x(value), series) for value, series in curve.points]
        path = "L".join(f"{x:.1f} {self._y(series.median):.1f}" for x, series in places)
        found = [f'<path d="M{path}" fill="none" stroke="{colour}"/>']
        for x, series in places:
            low, high = self._y(series.minimum), self._y(series.maximum)
            found.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="3"/>')
            found.append(f'<circle cx="{x:.1f}" cy="{self._y(series.median):.1f}" r="3" fill="{colour}"/>')
        return found


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that enclose ``values``."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "") -> str:
    style = _STYLE + (f"; fill: {colour}" if colour else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{text}</text>'

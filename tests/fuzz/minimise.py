"""The fewest and smallest inputs that reach all that is reached.

``python -m fuzz.minimise FROM… INTO`` below ``tests/``: FROM and INTO hold a directory a target. What has
a name with a dash in INTO stays: ``found-…`` failed once, ``seed-…`` differs in what libraries do of it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz.targets import TARGETS, Target

_READERS = str(Path(__file__).resolve().parents[2] / "lib")
Reached = set[tuple[str, int, int]]


def reached(target: Target, data: bytes) -> Reached:
    """The steps from line to line that reading ``data`` takes."""
    found: Reached = set()

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(_READERS):
            return None
        before = 0

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            found.add((name, before, frame.f_lineno))
            before = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        target.run(data, 60)
    finally:
        sys.settrace(None)
    return found


def minimised(target: Target, inputs: list[bytes], kept: list[bytes]) -> list[bytes]:
    """Of ``inputs`` what is needed besides ``kept``."""
    base: Reached = set().union(*(reached(target, data) for data in kept))
    have = set(base)
    chosen: list[tuple[bytes, Reached]] = []
    for data in sorted(inputs, key=len):
        own = reached(target, data) - have
        if own:
            have |= own
            data = _shortened(target, data, own)
            chosen.append((data, reached(target, data)))
    for entry in chosen[::-1]:  # later ones may reach all that an earlier one does
        others = base.union(*(found for data, found in chosen if data != entry[0]))
        if entry[1] <= others:
            chosen.remove(entry)
    return [data for data, _ in chosen]


def _shortened(target: Target, data: bytes, own: Reached) -> bytes:
    """``data`` without the blocks that are not needed to reach ``own``."""
    for length in (4096, 1024, 512):
        start = 0
        while start < len(data) > length:
            shorter = data[:start] + data[start + length :]
            if own <= reached(target, shorter):
                data = shorter
            else:
                start += length
    return data


def main(sources: list[Path], place: Path) -> None:
    for name, target in TARGETS.items():
        inputs = {file.read_bytes() for source in [*sources, place] for file in (source / name).glob("*")}
        old = list((place / name).glob("*"))
        kept = [file for file in old if "-" in file.name]
        chosen = minimised(target, list(inputs), [file.read_bytes() for file in kept])
        for file in old:
            if file not in kept:
                file.unlink()
        (place / name).mkdir(parents=True, exist_ok=True)
        for data in chosen:
            (place / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        print(f"{name}: {len(chosen)} of {len(inputs)}, {sum(map(len, chosen))} bytes")


if __name__ == "__main__":
    main([Path(text) for text in sys.argv[1:-1]], Path(sys.argv[-1]))

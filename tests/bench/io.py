"""What programs in a container get of its files: by backend, overlay and build format, cold and warm."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import layouts
from bench.containers import BUBBLEWRAP, CH_RUN, Image, Way, name_of, settings
from bench.measure import Measurement, Series
from bench.report import Report, Table, reason, series_of, target
from bench.site import Site

#: By names in loads.py.
_LOADS = {
    "stat": "stat of 20,000 files",
    "small": "5,000 small files",
    "sequential": "largest file",
    "random": "1,000 x 4 KiB of it",
    "torch": "`import torch`",
}
_COLD, _WARM = "cold", "warm"
#: Formats besides that of the store: compressor and block size.
_FORMATS = (("zstd", "1M"), ("lz4", "128K"), ("lz4", "1M"))
_USUAL = name_of("squashfuse")
_CACHES = Path("/proc/sys/vm/drop_caches")
_MEBIBYTE = 1 << 20


def measure(site: Site, rounds: int) -> Report:
    image = Image(site, layouts.with_pytorch()[0], "pytorch:1")
    sizes = {_USUAL: os.stat(image.squashfs).st_size}
    ways = image.side_by_side()
    _install_lz4(site)
    for compressor, block in _FORMATS:
        name = f"{_USUAL}, {compressor}, {block}"
        ways[name], sizes[name] = _format(site, image.reference, compressor, block)
    text = (Path(__file__).parent / "loads.py").read_text()
    found: dict[tuple[str, str, str], Measurement] = {}
    for number in range(rounds):
        for load in _LOADS:
            for name in random.Random(number).sample(sorted(ways), len(ways)):
                for state in (_COLD, _WARM):
                    key = (name, load, state)
                    once = _once(site, ways[name], text, load, state)
                    found[key] = Measurement.joined([found[key], once]) if key in found else once
    tables = [_table(found, list(ways), state, rounds) for state in (_COLD, _WARM)]
    tables[-1].notes += _verdicts(found)
    shown = "; ".join(f"{name}: {size / _MEBIBYTE:.0f}" for name, size in sizes.items())
    tables[-1].notes.append(f"MiB of the image's file: {shown}")
    keys = [(name, load, state) for name in ways for load in _LOADS for state in (_COLD, _WARM)]
    return Report(tables, series_of({", ".join(key): found[key] for key in keys}))


def _install_lz4(site: Site) -> None:
    """Pinnace needs a module for it that is no dependency of its own."""
    packages = next(Path(site.python).parents[1].glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--root-user-action=ignore", "--target", str(packages), "lz4"], check=True)


def _format(site: Site, reference: str, compressor: str, block: str) -> tuple[Way, int]:
    """The same image in a store of another format; and bytes of its file."""
    environment = {
        **settings(site, "squashfuse"),
        "PINNACE_STORE": str(site.home / "stores" / f"{compressor}-{block}"),
        "PINNACE_COMPRESSOR": compressor,
        "PINNACE_BLOCK_SIZE": block,
    }
    site.run("pinnace", "pull", "-q", reference, env=environment)
    size: int = json.loads(site.run("pinnace", "inspect", reference, env=environment))["size"]
    return Way(("pinnace", "run", reference), environment), size


def _once(site: Site, way: Way, text: str, load: str, state: str) -> Measurement:
    """A load in a container of its own. Warm is what an earlier container has just read."""
    try:
        if state == _COLD:
            os.sync()
            _CACHES.write_text("3")
        seconds = float(site.run(*way.words, "python3", "-I", "-c", text, load, env=way.environment))
    except (RuntimeError, OSError, ValueError) as error:
        return Measurement(load, None, str(error).strip().rpartition("\n")[2])
    return Measurement(load, Series((seconds,)))


def _table(
    found: Mapping[tuple[str, str, str], Measurement], names: list[str], state: str, rounds: int
) -> Table:
    table = Table(f"Files in a container, {state}: s, {rounds} rounds", ["container", *_LOADS.values()])
    for name in names:
        entries = [(found[name, load, state], found[BUBBLEWRAP, load, state]) for load in _LOADS]
        table.add(name, *(_cell(own, bare) for own, bare in entries))
    table.notes.append(
        "median ± interquartile range, ratio to the first line: the tree itself on the machine's file system"
    )
    return table


def _cell(own: Measurement, bare: Measurement) -> str:
    if own.series is None:
        return reason(own)
    text = f"{own.series.median:.3f} ±{own.series.spread:.3f}"
    return f"{text}, {own.series.ratio(bare.series):.1f} x" if bare.series else text


def _verdicts(found: Mapping[tuple[str, str, str], Measurement]) -> list[str]:
    own, bare, peer = (found[name, "torch", _WARM].series for name in (_USUAL, BUBBLEWRAP, CH_RUN))
    if own is None or bare is None or peer is None:
        return []
    verdicts = [target(own.ratio(peer), 1, f"x {CH_RUN}"), target(own.ratio(bare), 1.3, "x the tree")]
    return [f"{_LOADS['torch']}, warm, {_USUAL}: {'; '.join(verdicts)}"]

"""Put what `make bench` measured into docs/performance.md, and draw docs/performance.svg from it.

    build/venv/bin/python tests/bench/document.py

In the text a pair of comments says what belongs between them:
    <!-- bench NAME --> … <!-- end -->        the machine and the tables of build/bench/NAME.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import Series
from bench.plot import Curve, Panel, drawn
from bench.report import Table

_ROOT = Path(__file__).parents[2]
_MEASURED = _ROOT / "build" / "bench"
_TEXT = _ROOT / "docs" / "performance.md"
_PICTURE = _ROOT / "docs" / "performance.svg"
_SECTION = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: What of the machine's description matters to a reader.
_FACTS = ("date", "processor", "cores", "kernel", "system", "load", "load after")


def main() -> int:
    _TEXT.write_text(_SECTION.sub(_filled, _TEXT.read_text()))
    measured = _report("splices")["seconds"]
    _PICTURE.write_text(drawn(_panels({name: Series(tuple(values)) for name, values in measured.items()})))
    return 0


def _filled(section: re.Match[str]) -> str:
    if not (_MEASURED / f"{section[2]}.json").exists():
        print(f"{section[2]} was not measured, and stays as it is", file=sys.stderr)
        return section[0]
    return f"{section[1]}\n{_tables(section[2])}\n{section[3]}"


def _report(name: str) -> dict[str, Any]:
    path = _MEASURED / f"{name}.json"
    if not path.exists():
        raise SystemExit(f'{path} is not there: make bench ARGS="splices siblings" first')
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def _tables(name: str) -> str:
    report = _report(name)
    facts = ", ".join(f"{key} {report['machine'][key]}" for key in _FACTS if key in report["machine"])
    return "\n".join([f"Measured: {facts}.\n", *(Table(**table).markdown() for table in report["tables"])])


def _panels(measured: dict[str, Series]) -> list[Panel]:
    def curve(label: str, prefix: str, suffix: str = "") -> Curve:
        pattern = re.compile(rf"{prefix} (\d+){suffix}")
        found = {
            int(match[1]): series for name, series in measured.items() if (match := pattern.fullmatch(name))
        }
        return Curve(label, sorted(found.items()))

    return [
        Panel("files, in 10 layers", "processor time beside the data, s", [curve("", "inodes")]),
        Panel("layers, of 50,000 files", "processor time beside the data, s", [curve("", "layers")]),
        Panel("MiB of data", "s", [curve("copied", "MiB"), curve("reflinks", "MiB", ", reflink")]),
    ]


if __name__ == "__main__":
    sys.exit(main())

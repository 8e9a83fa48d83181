"""Put what `make bench` measured into docs/performance.md, and draw docs/performance-*.svg from it.

    cd tests && ../build/venv/bin/python -m bench.document

In the text a pair of comments says what belongs between them:
    <!-- bench NAME --> … <!-- end -->        the machine and the tables of build/bench/NAME.json
What was not measured stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from bench.measure import Series
from bench.pictures import PICTURES
from bench.report import Table

_ROOT = Path(__file__).parents[2]
_MEASURED = _ROOT / "build" / "bench"
_DOCUMENTS = _ROOT / "docs"
_TEXT = _DOCUMENTS / "performance.md"
_SECTION = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: What of the machine's description matters to a reader.
_FACTS = ("date", "processor", "cores", "kernel", "system", "load", "load after")


def main() -> int:
    _TEXT.write_text(_SECTION.sub(_filled, _TEXT.read_text()))
    for name, draw in PICTURES.items():
        report = _report(name)
        if report is not None:
            measured = {key: Series(tuple(values)) for key, values in report["seconds"].items()}
            (_DOCUMENTS / f"performance-{name}.svg").write_text(draw(measured))
    return 0


def _filled(section: re.Match[str]) -> str:
    report = _report(section[2])
    if report is None:
        print(f"{section[2]} was not measured, and stays as it is", file=sys.stderr)
        return section[0]
    return f"{section[1]}\n{_tables(report)}\n{section[3]}"


def _report(name: str) -> dict[str, Any] | None:
    path = _MEASURED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _tables(report: dict[str, Any]) -> str:
    facts = ", ".join(f"{key} {report['machine'][key]}" for key in _FACTS if key in report["machine"])
    return "\n".join([f"Measured: {facts}.\n", *(Table(**table).markdown() for table in report["tables"])])


if __name__ == "__main__":
    sys.exit(main())

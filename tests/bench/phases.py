"""Where the time of a warm ``pinnace run`` through Python goes, by running its pieces alone."""

from __future__ import annotations

import re
import shutil
import statistics
from typing import Any

from bench import marks
from bench.containers import settings
from bench.measure import Measurement, collected
from bench.report import SUMMARY, Report, Table, milliseconds, series_of, timing
from bench.site import Site
from cluster import images

_SPAWN = "starting a process"
_INTERPRETER = "interpreter alone"
_IMPORTS = "interpreter + the same imports, one by one"
_PLANNED = "all up to the executor"
_EXECUTOR = "executor with the finished plan"
_WHOLE = "pinnace run"
_UNCACHED = settings("squashfuse", cached=False)
_TRACED_ROUNDS = 10
_MODULES_SHOWN = 12

# The command as it is, but for what becomes of the plan.
_COMMAND = """
import sys
sys.path.insert(0, {library!r})
sys.argv = ["pinnace", "run", {reference!r}, "true"]
{change}
from pinnace.cli import main
sys.exit(main())
"""
# As the command ends: replaced by another program, not taken down by the interpreter.
_BECOME_TRUE = "import posix; posix.execv('/bin/true', ['true'])"
_EXECUTE_TRUE = "import pinnace.paths; pinnace.paths.EXECUTOR = '/bin/true'"
_KEEP_PLAN = """
known = set(sys.modules)
from pinnace.container import executor
def keep(plan, *_):
    open({plan!r}, "wb").write(plan.encode())
    loaded = [(name, getattr(module, "__spec__", None)) for name, module in sys.modules.items()]
    print(*(name for name, spec in loaded if name not in known and spec and spec.name == name))
    sys.exit(0)
executor.execute = keep
"""
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


def measure(site: Site, rounds: int) -> Report:
    reference = site.registry.push(images.debian(), "debian:12")
    site.run("pinnace", "pull", "-q", reference)
    parts = _Phases(site, reference)
    measured = parts.measure(rounds)
    return Report(parts.tables(measured), series_of(measured))


class _Phases:
    """The pieces of ``pinnace run REFERENCE true``."""

    def __init__(self, site: Site, reference: str) -> None:
        self._site = site
        self._reference = reference
        self._plan = str(site.directory("plans") / "run")
        keep = _KEEP_PLAN.format(plan=self._plan)
        modules = site.run(*self._python(self._command(keep))).split()
        # os comes first: the modules that it consists of cannot be imported before it.
        self._imports = f"import sys; sys.path.insert(0, {site.library!r}); import os, {', '.join(modules)}"

    def measure(self, rounds: int) -> dict[str, Measurement]:
        subjects: dict[str, dict[str, Any]] = {
            _SPAWN: {"command": ["/bin/true"]},
            _INTERPRETER: {"command": self._python(_BECOME_TRUE)},
            _IMPORTS: {"command": self._python(f"{self._imports}; {_BECOME_TRUE}")},
            _PLANNED: {"command": self._python(self._command(_EXECUTE_TRUE))},
            _EXECUTOR: {"command": [self._site.executor, "--plan={plan}"], "plan": self._plan},
            _WHOLE: {"command": ["pinnace", "run", self._reference, "true"], "environment": _UNCACHED},
        }
        return self._site.time(subjects, rounds)

    def tables(self, measured: dict[str, Measurement]) -> list[Table]:
        return [self._pieces(measured), self._marks(), self._modules()]

    def _pieces(self, measured: dict[str, Measurement]) -> Table:
        columns = ["piece, ms", *SUMMARY, "adds"]
        table = Table("Phases of a warm `pinnace run`, pieces run alone", columns)
        series = {name: entry.series for name, entry in measured.items()}

        def beyond(name: str, base: str, what: str) -> list[str]:
            own, other = series[name], series[base]
            return [f"{what} {milliseconds(own.excess(other))}"] if own and other else []

        added = {
            _INTERPRETER: beyond(_INTERPRETER, _SPAWN, "interpreter"),
            _IMPORTS: beyond(_IMPORTS, _INTERPRETER, "imports"),
            _PLANNED: beyond(_PLANNED, _INTERPRETER, "imports, configuration, store, plan"),
            _EXECUTOR: beyond(_EXECUTOR, _SPAWN, "namespaces, squashfuse, mounts, command, end"),
        }
        for name, entry in measured.items():
            table.add(name, *timing(entry), *added.get(name, []))
        planned, executor, whole = series[_PLANNED], series[_EXECUTOR], series[_WHOLE]
        if planned and executor and whole:
            halves = milliseconds((planned + executor).median)
            table.notes.append(
                f"the two halves together: {halves} ms; the whole: {milliseconds(whole.median)}"
            )
        return table

    def _marks(self) -> Table:
        """The executor's phases, between system calls."""
        table = Table("Phases of the executor, under strace", ["phase, ms", *SUMMARY])
        if shutil.which("strace") is None:
            table.notes.append("not here: strace is not installed")
            return table
        trace = self._site.directory("trace") / "calls"
        rounds = []
        for _ in range(_TRACED_ROUNDS):
            command = ["pinnace", "run", self._reference, "true"]
            self._site.run("strace", *marks.OPTIONS, "-o", str(trace), *command, env=_UNCACHED)
            rounds.append(marks.phases(trace.read_text()))
        for name, series in collected(rounds).items():
            table.add(name, *timing(Measurement(name, series)))
        table.notes.append("strace makes all of it slower; the shares are what counts")
        return table

    def _modules(self) -> Table:
        """The modules that cost most to import, without what they import themselves."""
        table = Table("The dearest imports", ["module, ms", "median alone"])
        found: dict[str, list[float]] = {}
        for _ in range(_TRACED_ROUNDS):
            done = self._site.cluster.run(
                [self._site.python, "-X", "importtime", *self._options()], check=True
            )
            for microseconds, module in _IMPORT_TIME.findall(done.stderr):
                found.setdefault(module, []).append(int(microseconds) / 1e6)
        medians = {module: statistics.median(values) for module, values in found.items()}
        for module in sorted(medians, key=lambda name: -medians[name])[:_MODULES_SHOWN]:
            table.add(module, milliseconds(medians[module]))
        own = sum(value for module, value in medians.items() if module.startswith("pinnace"))
        table.add(f"all {len(medians)}", milliseconds(sum(medians.values())))
        table.add("of which Pinnace's own", milliseconds(own))
        return table

    def _options(self) -> list[str]:
        return ["-I", "-S", "-c", self._imports]

    def _python(self, program: str) -> list[str]:
        return [self._site.python, "-I", "-S", "-c", program]

    def _command(self, change: str) -> str:
        return _COMMAND.format(library=self._site.library, reference=self._reference, change=change)

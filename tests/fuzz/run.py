"""Long runs, guided by coverage: ``python -m fuzz.run [TARGET …] [--minutes N]`` below ``tests/``.

Each target runs in a process of its own, one after the other. What is found that reaches new code
stays in ``build/fuzz/TARGET``, where the next run begins; an input that fails lies in
``build/fuzz/findings`` and ends its target's run with its traceback.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

_HERE = Path(__file__).resolve().parent
_WORK = _HERE.parents[1] / "build" / "fuzz"
#: MiB that one target's process may take.
_MEMORY = 512


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what reads what strangers wrote.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them if none is named")
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="of processor time for each target (default 1)"
    )
    parser.add_argument("--input", help="run this input alone, in this process")
    options = parser.parse_args()
    from fuzz.targets import TARGETS

    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if options.input:
        print(TARGETS[options.targets[0]].run(Path(options.input).read_bytes()) or "accepted")
        return 0
    return max([_run(name, options.minutes) for name in options.targets or TARGETS])


def _run(name: str, minutes: float) -> int:
    corpus = _WORK / name
    corpus.mkdir(parents=True, exist_ok=True)
    (_WORK / "findings").mkdir(exist_ok=True)
    for kept in (_HERE / "corpus" / name).glob("*"):
        shutil.copy(kept, corpus)
    spent, status = 0.0, 0
    while status == 0 and spent < 60 * minutes:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        status = _start(name, corpus, 60 * minutes - spent)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: status {status}, {spent / 60:.1f} minutes of processor time")
    return status


def _start(name: str, corpus: Path, seconds: float) -> int:
    """Fuzz for some seconds, which are more than the processor gives if others use it."""
    command = [
        sys.executable, "-c", "import sys; from fuzz import run; run.child(sys.argv)", name, str(corpus),
        f"-max_total_time={max(seconds, 2):.0f}", f"-rss_limit_mb={_MEMORY}", "-timeout=60",
        f"-artifact_prefix={_WORK / 'findings' / name}-", "-print_final_stats=1",
    ]  # fmt: skip
    return subprocess.run(command, env=dict(os.environ, PYTHONHASHSEED="0")).returncode


def child(arguments: list[str]) -> None:
    """Fuzz the target that the first argument names; the others are libFuzzer's."""
    import atheris

    with atheris.instrument_imports(include=["pinnace"]):
        from fuzz.targets import TARGETS
    target = TARGETS[arguments[1]]

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.1:
            return bytes(atheris.Mutate(data, largest))
        return target.mutate(data, rng, lambda piece: bytes(atheris.Mutate(piece, len(piece) + 16)))[:largest]

    def cross(one: bytes, other: bytes, largest: int, seed: int) -> bytes:
        return target.cross(one, other, Random(seed))[:largest]

    def one(data: bytes) -> None:
        target.run(data)

    libfuzzer = [arguments[0], *arguments[2:], f"-max_len={target.largest}"]
    atheris.Setup(libfuzzer, one, custom_mutator=mutate, custom_crossover=cross)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

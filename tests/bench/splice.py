"""One splice, measured: run in a process of its own, with the library of the installed Pinnace.

    splice.py LIBRARY TARGET LAYER…
Prints as JSON what it took: seconds of processor time beside copying and syncing data ("cpu") and
altogether ("wall", of which "copy" and "sync"), bytes of memory beyond the imported modules ("peak"),
and what came of it ("inodes", "bytes").
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock


def main() -> None:
    library, target, *layers = sys.argv[1:]
    sys.path.insert(0, library)
    print(json.dumps(measure(target, layers)))


def measure(target: str, layers: list[str]) -> dict[str, Any]:
    import zstandard

    from pinnace.layers import Format, assemble, splice
    from pinnace.squashfs import check

    zstandard.ZstdDecompressor()
    spent = {"copy": 0.0, "sync": 0.0}
    data = 0.0  # processor time for it

    def counted(name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            nonlocal data
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return action(*arguments)
            finally:
                spent[name] += time.perf_counter() - wall
                data += time.process_time() - cpu

        return count

    before = _memory()
    wall, cpu = time.perf_counter(), time.process_time()
    with mock.patch.object(splice._Copy, "carry_out", counted("copy", splice._Copy.carry_out)):
        assemble(layers, target, Format())
    with open(target, "rb") as image:  # as a store does when it publishes the file
        counted("sync", os.fsync)(image.fileno())
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu - data}
    summary = check(target)
    os.unlink(target)
    return {
        **spent,
        **taken,
        "peak": _memory() - before,
        "inodes": summary.inodes,
        "bytes": summary.bytes_used,
    }


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main()

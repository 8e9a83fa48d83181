"""What the phases of a start take (``timings``). On the launch path."""

from __future__ import annotations

import time


class Phases:
    """When each phase was over, by CLOCK_MONOTONIC in nanoseconds."""

    def __init__(self) -> None:
        # A process that has only computed so far began as long ago as it has used the processor.
        self.begun = time.monotonic_ns() - time.process_time_ns()
        self.ends: list[tuple[str, int]] = []

    def end(self, name: str) -> None:
        """The phase ``name`` has just ended."""
        self.ends.append((name, time.monotonic_ns()))

    def arguments(self) -> list[str | int]:
        """Those of a plan's ``timings``: names and times in turn; the beginning has no name."""
        return ["", self.begun, *(part for end in self.ends for part in end)]

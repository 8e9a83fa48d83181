"""What is to go from a store, and what went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pinnace.config import Settings
from pinnace.progress import size


class Queue(NamedTuple):
    """What Slurm says: the jobs of a cluster that have not ended; all of them, or the caller's alone."""

    cluster: str
    jobs: frozenset[int]
    complete: bool = True


#: Asks Slurm; None: it cannot be asked.
Jobs = Callable[[], "Queue | None"]


@dataclass(frozen=True)
class Policy:
    """What is to go. Ages are in seconds, ``quota`` and ``low_water`` in bytes; None: no limit.

    ``unreachable``: images that no reference leads to any more go, however old they are.
    """

    max_age: float | None = None
    quota: int | None = None
    low_water: int = 0
    unreachable: bool = False
    job_lease: float = 7 * 86400

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """The policy that is configured."""
        quota = settings["gc_quota"] or None
        return cls(
            max_age=settings["gc_max_age"] or None,
            quota=quota,
            low_water=low_water(settings["gc_low_water"], quota or 0),
            job_lease=settings["gc_job_lease"],
        )


@dataclass
class Removed:
    """An image that went: by age, for the quota, unreachable or damaged; ``idle`` seconds after its use."""

    digest: str
    references: list[str]
    reason: str
    idle: float
    freed: int


@dataclass
class Report:
    """What a collection did, or would do. Sizes in bytes.

    ``trees`` are those that went, which can be unpacked again. ``kept`` tells, for images that would have
    gone, why they did not: ``in use``, ``pinned``, ``job ID``, ``being made``, ``named``. ``busy``: another
    process was collecting, and nothing was done.
    """

    images: list[Removed] = field(default_factory=list)
    layers: int = 0
    trees: int = 0
    references: list[str] = field(default_factory=list)
    job_leases: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    before: int = 0
    after: int = 0
    quota: int | None = None
    busy: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the store takes more than its quota, all the same."""
        return self.quota is not None and self.after > self.quota

    def complaint(self) -> str:
        """That the quota does not hold, and what keeps it from holding."""
        reasons = Counter("kept by jobs" if why.startswith("job") else why for why in self.kept.values())
        images = ", ".join(f"{number} {why}" for why, number in sorted(reasons.items()))
        kept = f"images that stay: {images}" if images else "there is nothing more to remove"
        return f"the store takes {size(self.after)}, its quota is {size(self.quota or 0)}; {kept}"


def low_water(share: str, quota: int) -> int:
    """The bytes that a part of a quota, such as ``80%``, or a size means."""
    return quota * int(share[:-1]) // 100 if share.endswith("%") else min(quota, int(share))

"""When a request is made again, and after how long: data and arithmetic, no clock and no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Answers that may be another the next time (RFC 9110, 15.5 and 15.6; RFC 6585; RFC 8470).
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
#: Bytes that are progress without a doubt: fewer at a time could go on for ever.
PROGRESS = 16 << 10
#: How many times as many attempts there are while each brings fewer, but some.
_PATIENCE = 10


@dataclass(frozen=True)
class Policy:
    """Exponential backoff with full jitter.

    ``retries`` are those in a row without progress; ``base`` and ``cap`` bound the jitter and
    ``longest`` the wait that a registry may ask for, in seconds.
    """

    retries: int = 5
    base: float = 1.0
    cap: float = 30.0
    longest: float = 60.0

    def delay(self, failures: int, asked: float | None, random: float) -> float:
        """Seconds to wait after so many failures in a row; ``random`` is between 0 and 1.

        What the registry asked for is a minimum: with the jitter on top many nodes don't come back
        at the same moment.
        """
        return (asked or 0.0) + random * min(self.cap, self.base * 2.0 ** min(failures - 1, 60))

    def bears(self, asked: float | None) -> bool:
        """Whether a wait that a registry asks for is one to sit out."""
        return asked is None or asked <= self.longest


class Attempts:
    """Counts failures of one transfer; progress makes it start over."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        #: Failures in a row without a byte, and without enough bytes.
        self._idle = self._slow = 0

    def failed(self, progress: int) -> bool:
        """Note a failure after ``progress`` bytes; gives whether there may be another attempt."""
        if progress > 0:
            self._idle = 0
        if progress >= PROGRESS:
            self._slow = 0
        self._idle += 1
        self._slow += 1
        return self._idle <= self._policy.retries and self._slow <= _PATIENCE * self._policy.retries

    def delay(self, random: float) -> float:
        """Seconds before the next attempt: none after progress."""
        return self._policy.delay(self._slow - 1, None, random) if self._slow > 1 else 0.0


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3), as a number or as a date."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def rate_limit(headers: Mapping[str, str]) -> str | None:
    """What a registry says of its limit in ``RateLimit-Limit: COUNT;w=SECONDS``, in words."""
    count, _, rest = headers.get("RateLimit-Limit", "").partition(";")
    window = rest.strip().partition("w=")[2]
    if not count.isdigit() or len(count) > 12:
        return None
    if not window.isdigit() or len(window) > 12:
        return f"the limit is {count}"
    seconds = int(window)
    return f"the limit is {count} in " + (f"{seconds // 3600} h" if seconds >= 3600 else f"{seconds} s")


def is_used_up(headers: Mapping[str, str]) -> bool:
    """Whether a registry says that nothing is left of its limit, and not how long to wait."""
    left = headers.get("RateLimit-Remaining", "").partition(";")[0].strip()
    return left == "0" and "Retry-After" not in headers

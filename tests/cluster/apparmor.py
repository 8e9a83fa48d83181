"""User namespaces on machines that grant them by AppArmor profile alone (Ubuntu 24.04 and later)."""

from __future__ import annotations

import subprocess
from pathlib import Path

_RESTRICTION = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def allow(installed: Path, name: str) -> None:
    """Load the installed profile under ``name``, if this machine needs it.

    The name is the cluster's own, so that the profile of an installed Pinnace is not touched.
    """
    if _is_restricted():
        profile = installed.read_text().replace("profile pinnace ", f"profile {name} ", 1)
        installed.write_text(profile)
        subprocess.run(["apparmor_parser", "--replace", str(installed)], check=True)


def withdraw(installed: Path) -> None:
    """Unload what allow() has loaded."""
    if _is_restricted() and installed.exists():
        subprocess.run(["apparmor_parser", "--remove", str(installed)], check=False, capture_output=True)


def _is_restricted() -> bool:
    try:
        return _RESTRICTION.read_text().strip() == "1"
    except OSError:
        return False

"""Files that may not be read, in tests that root runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

Eyes = Callable[[], "AbstractContextManager[None]"]
_NOBODY = 65534


@contextmanager
def ordinary(directory: Path) -> Iterator[None]:
    """Be an ordinary user for a while, to whom the directories above ``directory`` are open.

    With another effective uid root loses its power over files (capabilities(7)).
    """
    if os.geteuid() != 0:
        yield
        return
    closed = [parent for parent in (directory, *directory.parents) if not parent.stat().st_mode & 0o001]
    modes = {parent: parent.stat().st_mode for parent in closed}
    for parent in closed:
        parent.chmod(modes[parent] | 0o055)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent, mode in modes.items():
            parent.chmod(mode)

"""Where the parts of this installation lie. ``make install`` replaces the values."""

from __future__ import annotations

import os

#: Directory of pinnace.toml and pinnace.d/.
SYSCONFDIR = "/etc/pinnace"

#: The compiled `pinnace` command, which uses kept plans; empty: the command is Python's.
FRONT = ""

#: The program that carries out a plan: beside the package when installed by pip.
EXECUTOR = os.path.join(os.path.dirname(__file__), "_libexec", "pinnace-exec")

#: The plugin of srun, sbatch, salloc and slurmstepd; empty: pip does not install it.
PLUGIN = ""

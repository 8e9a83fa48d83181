"""The part of the build that setup.cfg cannot say: the executor is a C program.

`pip install` puts it beside the package, where pinnace.paths looks for it. Without a C compiler the
package is installed without it, and whatever starts a container says so.
"""

import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HAS_COMPILER = all(shutil.which(program) for program in ("cc", "make"))


class BuildWithExecutor(build_py):
    def run(self) -> None:
        super().run()
        if HAS_COMPILER and not self.editable_mode:
            target = Path(self.build_lib, "pinnace", "_libexec", "pinnace-exec").absolute()
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["make", "--silent", "-C", "libexec", f"OUTPUT={target}", str(target)], check=True)


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        """A wheel that holds the executor is made for one kind of machine."""
        return HAS_COMPILER


setup(cmdclass={"build_py": BuildWithExecutor}, distclass=PlatformDistribution)

"""Print the dependencies that setup.cfg names, those of the extras given as arguments too."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def requirements(*extras: str) -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    texts = [setup["options"]["install_requires"]]
    texts += [setup["options.extras_require"][extra] for extra in extras]
    return [line for text in texts for line in text.split("\n") if line]


if __name__ == "__main__":
    print("\n".join(requirements(*sys.argv[1:])))

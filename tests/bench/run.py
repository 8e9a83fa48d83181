"""``make bench``: measure, print tables and keep them in build/bench. Numbers never make it fail."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from bench import machine
from bench.report import Report
from bench.site import Site
from cluster.cluster import Cluster
from cluster.registry import Registry
from cluster.requirements import REPOSITORY

#: With how many rounds each.
_TABLES = {
    "starts": 30,
    "phases": 30,
    "steps": 30,
    "crowd": 10,
    "io": 5,
    "memory": 3,
    "imports": 3,
    "pulls": 3,
    "downloads": 3,
    "splices": 5,
    "siblings": 3,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(_TABLES)}; all by default")
    parser.add_argument("--rounds", type=int, help="rounds of each table instead of its own number")
    parser.add_argument("--large", action="store_true", help="splices: of a million files as well")
    arguments = parser.parse_args()
    unknown = set(arguments.tables) - set(_TABLES)
    if unknown:
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("a cluster needs root: make bench")
    with Cluster(nodes=1) as cluster:
        registry = Registry(cluster)
        registry.start()
        site = Site(cluster, registry, large=arguments.large)
        for name in arguments.tables or _TABLES:
            facts = machine.describe()
            measure = importlib.import_module(f"bench.{name}").measure
            report: Report = measure(site, arguments.rounds or _TABLES[name])
            facts["load after"] = machine.load()
            print(report.write(REPOSITORY / "build" / "bench", name, facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

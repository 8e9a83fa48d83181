"""``pinnace store gc``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import click

from pinnace import config, digest, progress, supply
from pinnace.cli.store import words
from pinnace.errors import ConfigurationError, UsageError, one_line
from pinnace.slurm import jobs
from pinnace.store import Store
from pinnace.store.collection import collect
from pinnace.store.retention import Policy, Report, low_water


@click.command(
    epilog="""\b
Examples:
  pinnace store gc --max-age 30d
  pinnace store gc --quota 200G --low-water 80% --dry-run
  pinnace store gc --max-age 0     # all that nothing uses
"""
)
@click.option("--max-age", metavar="AGE", help="Images not used for so long: 12h, 30d.  [gc_max_age]")
@click.option("--quota", metavar="SIZE", help="Beyond it the longest unused: 200G.  [gc_quota]")
@click.option("--low-water", metavar="SHARE|SIZE", help="What is left then: 80%, 160G.  [gc_low_water]")
@click.option("--unreachable", is_flag=True, help="Images that no reference leads to any more.")
@click.option("--dry-run", is_flag=True, help="Tell what would be removed, and remove nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and that the quota does not hold.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def gc(
    max_age: str | None,
    quota: str | None,
    low_water: str | None,
    unreachable: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Remove images that were not used for long, and what belongs to no image.

    Never an image that is pinned, that a container runs from on any node, or whose job has not ended. It
    may run at any time, on every node at once.
    """
    settings = config.load()
    policy = _policy(settings, max_age, quota, low_water)
    store = Store(settings["store"])
    report = collect(
        store,
        replace(policy, unreachable=unreachable),
        jobs.queue,
        supply.catalogue(store, settings),
        dry_run=dry_run,
    )
    if as_json:
        click.echo(json.dumps({**asdict(report), "over_quota": report.is_over, "dry_run": dry_run}, indent=2))
        return
    if not quiet:
        for line in _lines(report, "would be removed" if dry_run else "removed"):
            click.echo(line)
    if report.is_over:
        click.echo(f"pinnace: {report.complaint()}", err=True)


def _policy(settings: config.Settings, max_age: str | None, quota: str | None, low: str | None) -> Policy:
    """The configured policy with what the command line says instead; a 0 there is a limit, too."""
    for name, value in (("gc_max_age", max_age), ("gc_quota", quota), ("gc_low_water", low)):
        if value is not None:
            option = f"--{name[3:].replace('_', '-')}"
            try:
                settings.set(name, value, option)
            except ConfigurationError as error:
                raise UsageError(str(error)) from None
    policy = Policy.of(settings)
    if max_age is not None:
        policy = replace(policy, max_age=settings["gc_max_age"])
    if quota is not None:
        water = low_water(settings["gc_low_water"], settings["gc_quota"])
        policy = replace(policy, quota=settings["gc_quota"], low_water=water)
    if low is not None and policy.quota is None:
        raise UsageError("--low-water says how far below a quota, and there is none", hint="give --quota")
    return policy


def _lines(report: Report, done: str) -> list[str]:
    if report.busy:
        return ["another process is cleaning up this store"]
    lines = []
    for image in report.images:
        name = ", ".join(image.references) or "an image without a name"
        why = "damaged" if image.reason == "damaged" else f"unused for {words.age(image.idle)}"
        freed = progress.size(image.freed)
        lines.append(one_line(f"{name} ({digest.short(image.digest)}) {done}: {why}, {freed} freed"))
    if report.layers:
        lines.append(f"{words.count(report.layers, 'layer')} of no image {done}")
    if report.trees:
        lines.append(f"{words.count(report.trees, 'unpacked tree')} {done}")
    if report.references:
        lines.append(f"{words.count(len(report.references), 'reference')} to no image {done}")
    lines.append(f"{progress.size(report.after)} in the store, {progress.size(report.before)} before")
    return lines

"""``pinnace store verify``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pinnace import config, reference, supply
from pinnace.store import Store, verification


@click.command(
    epilog="""\b
Examples:
  pinnace store verify
  pinnace store verify --quick nvcr.io/nvidia/pytorch:24.09-py3
"""
)
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--quick", is_flag=True, help="Check records, sizes and superblocks; read no whole files.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(images: tuple[str, ...], quick: bool, as_json: bool) -> int:
    """Check whether images and layers are what their records say.

    Without IMAGE the whole store is checked, but not the additional ones. Nothing is changed. The
    exit status is 1 if something is damaged; a note is no damage.
    """
    settings = config.load()
    store = Store(settings["store"])
    wanted = [supply.recorded(store, reference.parse(text)) for text in images] if images else None
    known = supply.catalogue(store, settings)
    damaged = 0
    found = []
    for finding in verification.verify(known, wanted, quick=quick):
        damaged += finding.damage
        if as_json:
            found.append(asdict(finding))
        else:
            click.echo(describe(finding))
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif damaged:
        click.echo(f"{damaged} damaged; `pinnace store repair` mends or removes them")
    return 1 if damaged else 0


def describe(finding: verification.Finding) -> str:
    """A finding as one line."""
    mark = "DAMAGED" if finding.damage else "note"
    return f"{mark:7} {finding.kind} {finding.name}: {finding.problem}"

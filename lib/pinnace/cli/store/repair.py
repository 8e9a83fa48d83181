"""``pinnace store repair``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pinnace import config, supply
from pinnace.cli.store.verify import describe
from pinnace.layers import Format
from pinnace.store import Store
from pinnace.store import repair as repairs


@click.command(epilog="Example: pinnace store repair")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def repair(as_json: bool) -> int:
    """Mend what `pinnace store verify` finds in the store.

    A damaged image is built anew from its layers; what cannot be mended is removed, and the next pull
    fetches it. What is good is not touched, and running containers keep what they run from. The exit
    status is 1 if something could not be repaired.
    """
    settings = config.load()
    known = supply.catalogue(Store(settings["store"]), settings)
    failed = False
    done = []
    for one in repairs.repair(known, Format.of(settings, streams=1)):
        failed |= not one.done
        if as_json:
            done.append({**asdict(one.finding), "action": one.action, "done": one.done})
        else:
            click.echo(f"{describe(one.finding)}: {one.action}")
    if as_json:
        click.echo(json.dumps(done, indent=1))
    return 1 if failed else 0

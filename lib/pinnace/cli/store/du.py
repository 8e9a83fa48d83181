"""``pinnace store du``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pinnace import config, progress
from pinnace.cli.store import words
from pinnace.store import Store
from pinnace.store.listing import totals


@click.command(epilog="Example: pinnace store du --json | jq .total.taken")
@click.option("--json", "as_json", is_flag=True, help="Print bytes, as JSON.")
def du(as_json: bool) -> None:
    """Show what the store takes.

    SIZE is the length of the files, ALLOCATED the blocks of each, TAKEN those blocks counted once: files
    with several names, and clones where the file system has reflinks, share theirs. The quota is
    about what the whole takes.
    """
    store = Store(config.load()["store"])
    parts = totals(store)
    if as_json:
        click.echo(json.dumps({name: asdict(part) for name, part in parts.items()}, indent=2))
        return
    rows = [["PART", ">FILES", ">SIZE", ">ALLOCATED", ">TAKEN"]]
    for name, part in parts.items():
        sizes = map(progress.size, (part.size, part.allocated, part.taken))
        rows.append([name, str(part.files), *sizes])
    for line in words.table(rows):
        click.echo(line)

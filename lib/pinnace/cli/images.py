"""``pinnace images``."""

from __future__ import annotations

import json
import time

import click

from pinnace import config, digest, progress, supply
from pinnace.store import Store

_COLUMNS = ("REFERENCE", "DIGEST", "PLATFORM", "SIZE", "CREATED")


@click.command(epilog="Example: pinnace images --json | jq -r '.[].reference'")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as a JSON array.")
def images(as_json: bool) -> None:
    """List the images in the store, and in the additional ones."""
    settings = config.load()
    listed = supply.catalogue(Store(settings["store"]), settings).listing()
    if as_json:
        facts = [
            {
                "reference": name,
                "digest": image.digest,
                "platform": image.platform,
                "size": image.size,
                "created_at": image.created_at,
                "path": image.path,
                "store": image.store,
                "layers": list(image.layers),
            }
            for name, image in listed
        ]
        click.echo(json.dumps(facts, indent=2))
        return
    stacked = bool(settings["additional_stores"])
    rows = [(*_COLUMNS, *(["STORE"] if stacked else []))] + [
        (
            name,
            digest.short(image.digest),
            image.platform,
            progress.size(image.size),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(image.created_at)),
            *([image.store] if stacked else []),
        )
        for name, image in listed
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())

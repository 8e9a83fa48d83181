"""``pinnace store ls``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import click

from pinnace import config, digest, progress
from pinnace.cli.store import words
from pinnace.errors import one_line
from pinnace.store import Store
from pinnace.store.listing import Entry, entries


@click.command(epilog="Example: pinnace store ls --json | jq -r '.[] | select(.pinned) | .digest'")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as a JSON array.")
def ls(as_json: bool) -> None:
    """List the images in the store: what each takes, when it was used, who keeps it.

    OWN is what would become free without the image, SHARED what it has in common with others: layers,
    and blocks where the file system has reflinks. UNPACKED is what its tree takes, which can be made again.
    """
    found = entries(Store(config.load()["store"]))
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    rows = [["DIGEST", ">OWN", ">SHARED", ">UNPACKED", "USED", "KEPT", "REFERENCES"]]
    rows += [_row(entry, time.time()) for entry in found]
    for line in words.table(rows):
        click.echo(line)


def _row(entry: Entry, now: float) -> list[str]:
    kept = ["in use"] if entry.in_use else []
    kept += [f"job {job}" for job in entry.jobs]
    kept += ["pinned"] if entry.pinned else []
    used = words.age(max(0.0, now - entry.used_at))
    return [
        digest.short(entry.digest),
        progress.size(entry.own),
        progress.size(entry.shared),
        progress.size(entry.unpacked) if entry.unpacked else "-",
        f"{used} ago",
        ", ".join(kept) or "-",
        one_line(", ".join(entry.references) or "-"),
    ]

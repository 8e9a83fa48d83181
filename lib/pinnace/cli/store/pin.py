"""``pinnace store pin``."""

from __future__ import annotations

import click

from pinnace import config, digest
from pinnace.layers import Format
from pinnace.store import Store, pins


@click.command(epilog="Example: pinnace store pin nvcr.io#nvidia/pytorch:24.09-py3")
@click.argument("images", metavar="IMAGE|DIGEST...", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def pin(images: tuple[str, ...], quiet: bool) -> None:
    """Keep images, however old they are and whatever the quota is.

    What is kept is what the reference means now: if the tag moves on, the old image stays.
    """
    settings = config.load()
    store = Store(settings["store"])
    for text in images:
        found = pins.named(store, text)
        pins.pin(store, found, text, Format.of(settings))
        if not quiet:
            click.echo(f"pinned {text} ({digest.short(found)})")

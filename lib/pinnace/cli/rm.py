"""``pinnace rm``."""

from __future__ import annotations

import click

from pinnace import config, progress, reference
from pinnace.store import Store


@click.command(epilog="Example: pinnace rm ubuntu:22.04 ubuntu:24.04")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def rm(images: tuple[str, ...], quiet: bool) -> None:
    """Remove images from the store, with the layers that no other image uses.

    Containers that run from a removed image keep it until they end.
    """
    store = Store(config.load()["store"])
    for parsed in [reference.parse(image) for image in images]:
        removal = store.remove(parsed)
        if not quiet:
            click.echo(f"removed {parsed}, {progress.size(removal.freed)} freed")

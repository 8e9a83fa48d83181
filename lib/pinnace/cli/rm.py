"""``pinnace rm``."""

from __future__ import annotations

import click

from pinnace import config, progress, reference, supply
from pinnace.cli import fail
from pinnace.errors import StoreError
from pinnace.store import Store


@click.command(epilog="Example: pinnace rm ubuntu:22.04 ubuntu:24.04")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def rm(images: tuple[str, ...], quiet: bool) -> int:
    """Remove images from the store, with the layers that no other image uses.

    Containers that run from a removed image keep it until they end. Images that are not in the store are
    named, and the exit status is 1 then.
    """
    settings = config.load()
    store = supply.catalogue(Store(settings["store"]), settings)
    status = 0
    for parsed in [reference.parse(image) for image in images]:
        try:
            removal = store.remove(parsed)
        except StoreError as error:
            if error.identifier != "not-in-store":
                raise
            status = fail(error)
            continue
        if not quiet:
            click.echo(f"removed {parsed}, {progress.size(removal.freed)} freed")
    return status

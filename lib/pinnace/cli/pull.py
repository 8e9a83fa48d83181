"""``pinnace pull``."""

from __future__ import annotations

import click

from pinnace import config, progress, reference, supply
from pinnace.store import Store


@click.command(epilog="Example: pinnace pull nvcr.io#nvidia/cuda:12.6.0-base-ubuntu24.04")
@click.argument("image", metavar="IMAGE")
@click.option("--platform", metavar="OS/ARCH", help="Platform of the image; this machine's by default.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def pull(image: str, platform: str | None, quiet: bool) -> None:
    """Fetch IMAGE from its registry into the store, or make sure that it is up to date.

    IMAGE is [USER@][REGISTRY#]NAME[:TAG][@DIGEST] or, as Docker has it, REGISTRY/NAME.
    """
    settings = config.load()
    with progress.for_stream(quiet=quiet) as display:
        supply.ensure(
            reference.parse(image),
            store=Store(settings["store"]),
            settings=settings,
            platform=platform,
            progress=display,
            refresh=True,
        )

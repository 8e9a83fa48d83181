"""``pinnace pull``."""

from __future__ import annotations

import click

from pinnace import config, progress, reference, supply
from pinnace.store import Store


@click.command(epilog="Example: pinnace pull debian:12 nvcr.io#nvidia/cuda:12.6.0-base-ubuntu24.04")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--platform", metavar="OS/ARCH", help="Platform of the image; this machine's by default.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def pull(images: tuple[str, ...], platform: str | None, quiet: bool) -> None:
    """Fetch images from their registries into the store, or make sure that they are up to date.

    IMAGE is [USER@][REGISTRY#]NAME[:TAG][@DIGEST] or, as Docker has it, REGISTRY/NAME. Each is
    printed with the digest that it has now.
    """
    settings = config.load()
    store = Store(settings["store"])
    for parsed in [reference.parse(image) for image in images]:
        pulled = supply.ensure(
            parsed,
            store=store,
            settings=settings,
            platform=platform,
            progress=lambda: progress.for_stream(quiet=quiet),
            refresh=True,
        )
        if not quiet:
            click.echo(parsed.with_digest(pulled.digest))

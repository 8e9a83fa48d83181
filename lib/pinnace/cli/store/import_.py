"""``pinnace store import``."""

from __future__ import annotations

import click

from pinnace import config, imports, progress
from pinnace.store import Store


@click.command(
    "import",
    epilog="""\b
Examples:
  pinnace store import images.tar
  pinnace store import ./debian.sqsh lab/debian:12
""",
)
@click.argument("file", metavar="FILE|-")
@click.argument("name", metavar="[REFERENCE]", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def import_(file: str, name: str | None, quiet: bool) -> None:
    """Take images from a file into the store; no registry is asked for them afterwards.

    FILE is an archive that `pinnace store export` wrote, or what `pinnace pull` takes: a squashfs file, an
    OCI layout or archive, a root file system. - is standard input with an archive of `pinnace store
    export`. REFERENCE is what the image is to be called. Import only from whom you trust: that layers are
    what they are called is the word of whoever made the archive.
    """
    settings = config.load()
    fetched = imports.take(
        file,
        name,
        store=Store(settings["store"]),
        settings=settings,
        progress=lambda: progress.for_stream(quiet=quiet),
    )
    for reference, image in fetched:
        if not quiet:
            click.echo(reference.with_digest(image.digest))

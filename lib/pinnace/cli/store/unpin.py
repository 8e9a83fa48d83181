"""``pinnace store unpin``."""

from __future__ import annotations

import click

from pinnace import config, digest
from pinnace.errors import StoreError
from pinnace.store import Store, pins


@click.command(epilog="Example: pinnace store unpin nvcr.io#nvidia/pytorch:24.09-py3")
@click.argument("images", metavar="IMAGE|DIGEST...", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def unpin(images: tuple[str, ...], quiet: bool) -> None:
    """Let images go once they are old, or beyond the quota."""
    store = Store(config.load()["store"])
    for text in images:
        found = pins.named(store, text)
        if not pins.unpin(store, found):
            raise StoreError(
                f"{text} is not pinned", hint="`pinnace store ls` shows what is", identifier="not-pinned"
            )
        if not quiet:
            click.echo(f"unpinned {text} ({digest.short(found)})")

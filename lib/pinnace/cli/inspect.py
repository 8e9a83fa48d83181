"""``pinnace inspect``."""

from __future__ import annotations

import json

import click

from pinnace import config, supply


@click.command(epilog="Example: pinnace inspect ubuntu:24.04 | jq .config.Env")
@click.argument("image", metavar="IMAGE|PATH.sqsh")
@click.option("--platform", metavar="OS/ARCH", help="Platform of the image; this machine's by default.")
def inspect(image: str, platform: str | None) -> None:
    """Print what is known of an image in the store, or of a squashfs file, as JSON."""
    click.echo(json.dumps(supply.describe(image, config.load(), platform), indent=2))

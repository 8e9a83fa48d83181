"""``pinnace store export``."""

from __future__ import annotations

import os
import sys

import click

from pinnace import config, exports, reference, supply
from pinnace.errors import UsageError
from pinnace.layers import Format
from pinnace.store import Store


@click.command(
    epilog="""\b
Examples:
  pinnace store export debian:12 ./debian.sqsh
  pinnace store export debian:12 nvcr.io/nvidia/cuda:12.6.0-base-ubuntu24.04 images.tar
  pinnace store export --format tar debian:12 - | ssh login.example.org pinnace store import -
"""
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.argument("target", metavar="FILE|DIR|-")
@click.option(
    "--format",
    "form",
    type=click.Choice(("sqsh", "tar")),
    help="A squashfs file that stands alone, or an archive for `pinnace store import`; by FILE's suffix.",
)
@click.option("-f", "--force", is_flag=True, help="Replace FILE.")
@click.option("--platform", metavar="OS/ARCH", help="Platform of the images; this machine's by default.")
def export(images: tuple[str, ...], target: str, form: str | None, force: bool, platform: str | None) -> None:
    """Write images of the store to a file; no registry is asked.

    FILE.sqsh is a squashfs file that runs anywhere, under enroot as well; in DIR it gets the name that
    enroot gives it. FILE.tar is an archive of images with their layers, for `pinnace store import`. - is
    standard output.
    """
    settings = config.load()
    known = supply.catalogue(Store(settings["store"]), settings)
    parsed = [reference.parse(text) for text in images]
    found = [(one, supply.recorded(known, one, platform)) for one in parsed]
    squash = Format.of(settings, streams=1)
    if target == "-" and os.isatty(1):
        raise UsageError("standard output is a terminal", hint="redirect it to a file or a pipe")
    if (form or ("tar" if target.endswith(".tar") else "sqsh")) == "tar":
        exports.archive(known, found, target, sys.stdout.buffer, force=force)
    else:
        exports.squashfs(known.own, found, target, sys.stdout.buffer, squash, force=force)

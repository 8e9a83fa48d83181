"""``pinnace pull``, also called ``pinnace import``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pinnace import config, imports, progress
from pinnace.errors import PinnaceError, UsageError
from pinnace.layers import Format
from pinnace.store import Store, output
from pinnace.store.leases import Lease

if TYPE_CHECKING:
    from pinnace.store.retention import Queue


@click.command(
    epilog="""\b
Examples:
  pinnace pull debian:12 nvcr.io#nvidia/cuda:12.6.0-base-ubuntu24.04
  pinnace pull -o cuda.sqsh nvcr.io#nvidia/cuda:12.6.0-base-ubuntu24.04
  docker save tool:1 | pinnace pull -
  pinnace pull --name lab/tool:2 tar:rootfs.tar.gz
"""
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-o", "--output", "path", metavar="FILE|DIR", help="Write a squashfs file as well.")
@click.option("-f", "--force", is_flag=True, help="Replace the file that --output names.")
@click.option("-n", "--name", metavar="REFERENCE", help="What to call an image from a file.")
@click.option("--platform", metavar="OS/ARCH", help="Platform of the image; this machine's by default.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one object a line.")
def pull(
    images: tuple[str, ...],
    path: str | None,
    force: bool,
    name: str | None,
    platform: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fetch images into the store, or make sure that they are up to date.

    IMAGE is [USER@][REGISTRY#]NAME[:TAG][@DIGEST] or, as Docker has it, REGISTRY/NAME; or comes from
    a file: oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], tar:FILE, dir:PATH,
    sqsh:FILE, or a path that begins with . or / (- is standard input). Each is printed with the digest
    that it has now.
    """
    if len(images) > 1 and name:
        raise UsageError("--name is for one image")
    if len(images) > 1 and path and not output.is_directory(path):
        raise UsageError(f"{path} is to hold several images", hint="give --output a directory")
    settings = config.load()
    store = Store(settings["store"])
    if path:
        output.check(path, force=force)
    for text in images:
        with Lease() as lease:
            try:
                reference, image = imports.fetch(
                    text,
                    store=store,
                    settings=settings,
                    hold=lease.take,
                    jobs=_jobs,
                    progress=lambda: progress.for_stream(quiet=quiet, as_json=as_json),
                    name=name,
                    platform=platform,
                )
            except PinnaceError as error:
                if as_json:
                    click.echo(json.dumps({"event": "error", **error.as_dict()}))
                raise
            if path:
                from pinnace.store import lone

                form = Format.of(settings, streams=1)
                lone.write(image, output.target(path, reference), form, force=force)
        if as_json:
            facts = {"reference": str(reference), "digest": image.digest, "path": image.path}
            click.echo(json.dumps({"event": "image", **facts}))
        elif not quiet:
            click.echo(reference.with_digest(image.digest))


def _jobs() -> Queue | None:
    """The jobs that Slurm has, which are asked for if the store is beyond its quota alone."""
    from pinnace.slurm import jobs

    return jobs.queue()

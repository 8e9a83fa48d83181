"""``pinnace store``: what lies in the store, and what is kept there."""

from __future__ import annotations

import click

from pinnace.cli.commands import Commands


class StoreCommands(Commands):
    """The commands of a store's owner."""

    package = "pinnace.cli.store"
    names = ("ls", "du", "gc", "pin", "unpin", "verify", "repair", "import", "export")
    aliases = {"import": "import_"}


@click.command(cls=StoreCommands, invoke_without_command=True)
@click.pass_context
def store(context: click.Context) -> None:
    """Look after the store: what lies in it, what may go, what stays.

    \b
    Examples:
      pinnace store ls
      pinnace store gc --max-age 30d --quota 200G
      pinnace store pin nvcr.io#nvidia/pytorch:24.09-py3
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())

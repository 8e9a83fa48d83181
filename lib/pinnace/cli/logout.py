"""``pinnace logout``."""

from __future__ import annotations

import click

from pinnace import config
from pinnace import login as logins


@click.command(epilog="Example: pinnace logout nvcr.io")
@click.argument("registry", metavar="HOST")
def logout(registry: str) -> None:
    """Forget what `pinnace login` has kept for the registry HOST."""
    done = logins.logout(registry, config.load())
    if done.changed:
        click.echo(f"logged out of {done.registry} ({done.file})")
    else:
        click.echo(f"there was no login to {done.registry} in {done.file}")
    if done.other:
        click.echo(f"pinnace: warning: {done.registry} is still shown {done.other}", err=True)

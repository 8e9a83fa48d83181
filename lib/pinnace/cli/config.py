"""``pinnace config``."""

from __future__ import annotations

import json

import click

from pinnace import config as configuration


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print values and origins as JSON.")
def config(as_json: bool) -> None:
    """Show every setting, its value and where it was set.

    \b
    Examples:
      pinnace config
      PINNACE_STORE=/scratch/$USER/pinnace pinnace config
    """
    settings = configuration.load()
    registries = {host: rules._asdict() for host, rules in settings.registries.items()}
    if as_json:
        click.echo(
            json.dumps(
                {"values": settings.values, "registries": registries, "origins": settings.origins}, indent=1
            )
        )
        return
    for key in configuration.KEYS:
        click.echo(f"# {key.help} [{settings.origins[key.name]}]")
        click.echo(f"{key.name} = {json.dumps(settings[key.name])}")
    for host, rules in registries.items():
        click.echo(f"# [{settings.origins[f'registries.{host}']}]")
        click.echo(f'[registries."{host}"]')
        for name, value in rules.items():
            if value is not None:
                click.echo(f"{name} = {json.dumps(value)}")

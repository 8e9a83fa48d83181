"""``pinnace login``."""

from __future__ import annotations

import sys

import click

from pinnace import config
from pinnace import login as logins
from pinnace.credentials import dumps
from pinnace.errors import UsageError
from pinnace.secret import Secret


@click.command(epilog="Example: pinnace login --username '$oauthtoken' --password-stdin nvcr.io <key")
@click.argument("registry", metavar="HOST|IMAGE")
@click.option("-u", "--username", help="Name at the registry; asked for on a terminal.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--check", is_flag=True, help="Show which credentials IMAGE is pulled with; keep nothing.")
def login(registry: str, username: str | None, password_stdin: bool, check: bool) -> int:
    """Show user name and password to the registry HOST and, if it takes them, keep them for pulls.

    They are kept in ~/.config/pinnace/auth.json, which only you can read, in Docker's format. No
    credential helper is written to; what `docker login` and `podman login` have kept is used as it
    is, after Pinnace's own file.
    """
    settings = config.load()
    with dumps.forbidden():
        if check:
            return _check(registry, settings)
        name = username or _prompt("Username")
        password = _from_standard_input() if password_stdin else _prompt("Password", hidden=True)
        kept = logins.login(registry, name, Secret(password), settings)
    if not kept.asked:
        click.echo(
            f"pinnace: warning: {kept.registry} did not ask for the password; it is unchecked", err=True
        )
    click.echo(f"logged in to {kept.registry} as {name} ({kept.file})")
    return 0


def _check(image: str, settings: config.Settings) -> int:
    found = logins.check(image, settings, lambda line: click.echo(f"pinnace: {line}", err=True))
    click.echo(f"registry:    {found.registry}")
    click.echo(f"credentials: {found.credentials}")
    if found.error is not None:
        raise found.error
    click.echo(f"answer:      may be read, {found.digest}")
    return 0


def _prompt(what: str, *, hidden: bool = False) -> str:
    if not sys.stdin.isatty():
        option = "--password-stdin" if hidden else "--username"
        raise UsageError(f"there is no terminal to ask for the {what.lower()} on", hint=f"use {option}")
    answer: str = click.prompt(what, hide_input=hidden, err=True)
    return answer


def _from_standard_input() -> str:
    try:
        password = sys.stdin.read().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input is not UTF-8 text") from None
    if not password:
        raise UsageError("there is no password on standard input")
    return password

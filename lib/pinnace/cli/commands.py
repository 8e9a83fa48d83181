"""The table of commands, for click."""

from __future__ import annotations

import importlib
import sys

import click

from pinnace import __version__
from pinnace.errors import UsageError


class Commands(click.Group):
    """Commands are imported from ``package`` when they are named, in the order of ``names``."""

    package: str
    names: tuple[str, ...]
    #: Modules of commands that cannot be called as they are, and of further names.
    aliases: dict[str, str] = {}

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.names and name not in self.aliases:
            return None
        name = self.aliases.get(name, name)
        command: click.Command = getattr(importlib.import_module(f"{self.package}.{name}"), name)
        return command


class Pinnace(Commands):
    """All commands."""

    package = "pinnace.cli"
    names = ("run", "pull", "images", "inspect", "rm", "store", "login", "logout", "doctor", "config")
    #: enroot's users look for this one.
    aliases = {"import": "pull"}

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return run if name == "run" else super().get_command(context, name)


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> int:
    """Run a command in a container."""
    from pinnace.cli import run as launch

    return launch.main(list(arguments))


@click.command(cls=Pinnace, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pinnace")
def pinnace() -> None:
    """Run OCI images as ordinary users, by hand and under Slurm.

    \b
    Examples:
      pinnace pull debian:12
      pinnace run debian:12 cat /etc/os-release
      srun --container-image=debian:12 cat /etc/os-release
    """


def dispatch(arguments: list[str]) -> int:
    """Run a click command; its usage errors become one line like every other error."""
    try:
        result = pinnace.main(arguments or ["--help"], prog_name="pinnace", standalone_mode=False)
    except click.Abort:
        return 130
    except click.ClickException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "pinnace")
        raise UsageError(error.format_message().rstrip("."), hint=f"see `{command} --help`") from None
    if sys.stdout is not None:  # None: it is closed
        sys.stdout.flush()
    return result if isinstance(result, int) else 0

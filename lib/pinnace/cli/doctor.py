"""``pinnace doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pinnace import config
from pinnace import doctor as checks


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> int:
    """Check this machine and say what to mend.

    The exit status is 1 if something that containers need is missing.

    \b
    Example:
      pinnace doctor
    """
    findings = list(checks.examine(config.load()))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "ok" if finding.ok else ("FAILED" if finding.required else "note")
            click.echo(f"{mark:7} {finding.name}: {finding.message}")
            if not finding.ok:
                click.echo(f"        {finding.hint}")
    return 0 if all(finding.ok or not finding.required for finding in findings) else 1

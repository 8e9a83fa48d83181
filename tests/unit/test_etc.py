"""The files of etc/ say what the code does."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

from pinnace import config

_FILE = Path(__file__).parents[2] / "etc" / "pinnace.toml"
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def test_the_commented_defaults_are_those_in_force() -> None:
    text = re.sub(r"^# (\w+ = |\[)", r"\1", _FILE.read_text(), flags=re.MULTILINE)
    document = tomllib.loads(text)
    del document["registries"]
    assert list(document) == [key.name for key in config.KEYS]
    assert {key.name: key.parse(document[key.name]) for key in config.KEYS} == {
        key.name: key.default for key in config.KEYS
    }


def test_every_default_is_explained() -> None:
    text = _FILE.read_text()
    assert [key.name for key in config.KEYS if key.help[1:] not in text] == []


def test_nothing_is_set_as_installed() -> None:
    assert tomllib.loads(_FILE.read_text()) == {}


def test_the_line_for_cron_is_to_be_enabled_and_is_one_for_the_shell_then() -> None:
    lines = _FILE.with_name("cron.d").joinpath("pinnace").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#") and "=" not in line] == []
    (line,) = (line[1:] for line in lines if re.match(r"#\d", line))
    *when, user, command = line.split(maxsplit=6)
    assert len(when) == 5 and user == "pinnace"
    assert "%" not in command.replace(r"\%", "")  # cron(5): a line would end there
    command = command.replace(r"\%", "%").replace("sleep", "test -1 -le").replace("@BINDIR@/pinnace", "echo")
    assert subprocess.run(command, shell=True, capture_output=True, text=True).stdout == "store gc --quiet\n"

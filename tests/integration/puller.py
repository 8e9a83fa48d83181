"""The pull command in this process, with a store and a configuration of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from integration import sound
from pinnace.cli import main
from pinnace.registry.transport import Transport


class Puller:
    """The command, run in this process, with a store of its own."""

    def __init__(
        self, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.root = base / "store"
        self.slept: list[float] = []
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.configuration = base / "config" / "pinnace" / "pinnace.toml"
        self.configuration.parent.mkdir(parents=True)
        environment = {
            "HOME": str(base),
            "XDG_CONFIG_HOME": str(base / "config"),
            "PINNACE_STORE": str(self.root),
            "PINNACE_STALL_TIMEOUT": "1",
            "PINNACE_PART_SIZE": str(64 << 10),
            "PINNACE_BLOCK_SIZE": "65536",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(Transport, "pause", lambda _, seconds: self.slept.append(seconds))

    def configure(self, *tables: tuple[str, str]) -> None:
        """Write the configuration: of each host its lines."""
        text = "".join(f'[registries."{host}"]\n{lines}\n' for host, lines in tables)
        self.configuration.write_text(text)

    def pull(self, reference: str) -> tuple[int, str]:
        """Status and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["pinnace", "pull", "--quiet", reference])
        status = main()
        return status, self._capsys.readouterr().err

    def events(self, reference: str) -> list[dict[str, Any]]:
        """What a pull tells with --json."""
        self._monkeypatch.setattr(sys, "argv", ["pinnace", "pull", "--json", reference])
        main()
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]

    def fails(self, reference: str) -> str:
        """The one line of an error; the store is as it has to be."""
        status, said = self.pull(reference)
        assert status == 1 and said.startswith("pinnace: error: ") and said.count("\n") == 1, said
        self.check()
        return said

    def succeeds(self, reference: str) -> None:
        assert self.pull(reference) == (0, "")
        self.check()

    def check(self) -> None:
        assert sound.leftovers(self.root) == []
        assert sound.faults(self.root) == []

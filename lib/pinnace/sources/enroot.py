"""An image's configuration as the files that enroot has for it (enroot, doc/image-format.md).

/etc/environment    the variables, one a line
/etc/rc             a script: changes to the working directory and executes entry point and command
/etc/rc.local       what the script reads before that
/etc/fstab          volumes
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from pinnace.errors import one_line

ENVIRONMENT, SCRIPT, LOCAL, MOUNTS = b"etc/environment", b"etc/rc", b"etc/rc.local", b"etc/fstab"

#: The command of an image whose script is not of the form that enroot gives it.
OPAQUE = ["/bin/sh", "/etc/rc"]

_VARIABLE = re.compile(r"[ \t]*((?!ENROOT_)[A-Za-z_][A-Za-z0-9_]*)=(.*)")
_QUOTED = re.compile(r"""(["']).*["']\s*""", re.DOTALL)
_DIRECTORY = re.compile(r"cd (.*) && unset OLDPWD \|\| exit 1")
#: What a script of enroot's form has before it executes anything.
_BEFORE = re.compile(
    r"|#.*|mkdir -p .*|cd .* && unset OLDPWD \|\| exit 1"
    r"|if \[ -s /etc/rc\.local \]; then( \. /etc/rc\.local; fi)?|\. /etc/rc\.local|fi"
)
#: Words that nothing but quotes keep together or apart.
_PLAIN = re.compile(r"""(?:'[^']*'|\\'|"[^"$`\\]*"|[\w./:=,@%^+-]|\s)*""")
_LOCAL_HEAD = "# This file is read by /etc/rc when the container starts: it may change what is executed.\n"
_VOLUME_OPTIONS = "x-create=dir,bind,rw,nosuid,nodev"


def files_of(config: Mapping[str, Any], reference: str) -> dict[bytes, bytes]:
    """The files of a configuration, by their paths; none if there is nothing to say."""
    if not config:
        return {}
    files = {ENVIRONMENT: _environment(config.get("Env") or ()), MOUNTS: _mounts(config.get("Volumes"))}
    if config.get("Cmd") != OPAQUE:
        files[SCRIPT] = _script(config, reference)
        files[LOCAL] = _LOCAL_HEAD
    return {path: text.encode("utf-8", "surrogateescape") for path, text in files.items()}


def config_of(files: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The configuration that an image's files tell; a file that is missing tells nothing."""
    texts = {path: content.decode("utf-8", "surrogateescape") for path, content in files.items()}
    config: dict[str, Any] = {}
    variables = _variables(texts.get(ENVIRONMENT, ""))
    if variables:
        config["Env"] = variables
    if SCRIPT in texts:
        config.update(_commands(texts[SCRIPT], texts.get(LOCAL, "")))
    return config


def _environment(entries: Iterable[str]) -> str:
    # A value of several lines cannot be said there.
    return "".join(f"{_quoted(entry)}\n" for entry in entries if "\n" not in entry)


def _quoted(entry: str) -> str:
    """enroot takes one pair of quotes away: a value that has some gets another."""
    name, _, value = entry.partition("=")
    return f'{name}="{value}"' if _QUOTED.fullmatch(value) else entry


def _variables(text: str) -> list[str]:
    found = []
    for line in text.split("\n"):
        match = _VARIABLE.fullmatch(line)
        if match and "\0" not in line:
            name, value = match.groups()
            if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
                value = value[1:-1]
            found.append(f"{name}={value}")
    return found


def _mounts(volumes: object) -> str:
    """A volume stays writable in a read-only container: it is mounted on itself."""
    lines = []
    for path in volumes if isinstance(volumes, dict) else ():
        if path.startswith("/") and path.isprintable() and not set(path) & set("$\\ "):
            lines.append(f"${{ENROOT_ROOTFS}}{path} {path} none {_VOLUME_OPTIONS}\n")
    return "".join(lines)


def _script(config: Mapping[str, Any], reference: str) -> str:
    entrypoint, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    if not entrypoint and not command:
        command = ["/bin/sh"]
    where = shlex.quote(config.get("WorkingDir") or "/")
    return "\n".join(
        (
            f"# enroot-provenance: docker://{one_line(reference)}",
            f"mkdir -p {where} 2> /dev/null",
            f"cd {where} && unset OLDPWD || exit 1",
            "if [ -s /etc/rc.local ]; then . /etc/rc.local; fi",
            "if [ $# -gt 0 ]; then",
            " ".join(("    exec", *map(shlex.quote, entrypoint), '"$@"')),
            "else",
            f"    exec {shlex.join([*entrypoint, *command])}",
            "fi\n",
        )
    )


def _commands(script: str, local: str) -> dict[str, Any]:
    """What a script executes, and where; if that takes a shell to tell, the script itself."""
    found = [match[1] for line in script.splitlines() if (match := _DIRECTORY.fullmatch(line.strip()))]
    words = _words(found[0]) if len(found) == 1 else None
    commands = None
    if not any(line and not line.startswith("#") for line in local.splitlines()):
        commands = _parsed(script)
    config: dict[str, Any] = {"Cmd": list(OPAQUE)} if commands is None else commands
    if words is not None and len(words) == 1 and words[0] != "/":
        config["WorkingDir"] = words[0]
    return config


def _parsed(script: str) -> dict[str, list[str]] | None:
    """Entry point and command of a script that is of enroot's form."""
    before, _, rest = script.partition("if [ $# -gt 0 ]; then\n")
    with_arguments, _, rest = rest.partition("\nelse\n")
    without, _, end = rest.rpartition("\nfi")
    if not all(_BEFORE.fullmatch(line.strip()) for line in before.splitlines()) or end.strip():
        return None
    entrypoint, everything = _executed(with_arguments.rstrip(), '"$@"'), _executed(without, "")
    if entrypoint is None or everything is None or everything[: len(entrypoint)] != entrypoint:
        return None
    found = {"Entrypoint": entrypoint, "Cmd": everything[len(entrypoint) :]}
    return {key: words for key, words in found.items() if words}


def _executed(text: str, end: str) -> list[str] | None:
    """The words of a line ``exec WORDS`` that ends with ``end``."""
    text = text.strip()
    if not text.startswith("exec ") or not text.endswith(end):
        return None
    return _words(text[len("exec ") : len(text) - len(end)])


def _words(text: str) -> list[str] | None:
    """The words of a piece of script; None if more than quotes would have to be understood."""
    if "\0" in text or not _PLAIN.fullmatch(text):
        return None
    try:
        return shlex.split(text)
    except ValueError:
        return None

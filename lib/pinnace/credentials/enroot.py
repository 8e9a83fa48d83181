"""enroot's credentials: lines ``machine HOST login USER password SECRET``.

``$ENROOT_CONFIG_PATH/.credentials``, by default ``~/.config/enroot/.credentials`` (enroot,
``doc/cmd/import.md`` and ``src/docker.sh``). HOST has no port. A SECRET that begins with ``$`` is
expanded; a user such as ``$oauthtoken`` is not.

enroot has curl look for the host of the token service, so its users keep two lines for one
registry. Here the registry's own line is enough and wins. The token service's line alone is taken
where the service plainly belongs to the registry: otherwise a registry that names somebody else's
service would be given tokens for images that lie elsewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from pinnace.credentials import names
from pinnace.credentials.files import Question, Surroundings, malformed, read
from pinnace.credentials.helper import DEFAULT_PATH
from pinnace.credentials.variables import without_secrets
from pinnace.errors import CredentialError
from pinnace.secret import Credential, Secret

_LINE = re.compile(
    r"machine\s+(\S+)\s+login\s+(\S+)\s+password\s+(\$\(.*\)|\S+)(?:\s+account\s+\S+)?(?:\s+#.*)?"
)
_OUTSIDE = re.compile(r"default(\s|$)|macdef(\s|$)|#")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
#: Token services on hosts of their own.
_SERVICES = {names.HUB: (names.HUB_REALM,), "nvcr.io": ("authn.nvidia.com",)}
#: Seconds that a command may take.
_TIMEOUT = 60.0


@dataclass(frozen=True)
class _Line:
    number: int
    machine: str
    login: str
    password: Secret


def path(surroundings: Surroundings) -> str:
    """Where enroot keeps credentials."""
    directory = surroundings.environment.get("ENROOT_CONFIG_PATH") or surroundings.configuration("enroot")
    return f"{directory}/.credentials"


def find(question: Question, surroundings: Surroundings) -> Credential | None:
    """What enroot's file has for the registry. Raises CredentialError if it is malformed."""
    file = path(surroundings)
    shown = surroundings.shown(file)
    lines = list(_lines(read(file, surroundings) or "", shown))
    for machine in _machines(question):
        for line in lines:
            if line.machine == machine and question.user in (None, line.login):
                surroundings.warn_if_shared(file)
                secret = _expanded(line.password, f"{shown}, line {line.number}", surroundings)
                return Credential(shown, line.login, secret)
    return None


def _machines(question: Question) -> list[str]:
    """The machine names that count, in order."""
    registry, realm = names.without_port(question.host), names.without_port(question.realm)
    hub = names.canonical(registry) == names.HUB
    found = [registry] + (["docker.io", "index.docker.io"] if hub else [])
    services = _SERVICES.get(names.canonical(registry), ())
    # Docker Hub's service is known without having been told; gitlab.com serves registry.gitlab.com.
    found += services if not realm or realm in services else ()
    if "." in realm and registry.endswith("." + realm):
        found.append(realm)
    return found


def _lines(text: str, shown: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or _OUTSIDE.match(line):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            reason = f"line {number} is not `machine HOST login USER password SECRET`"
            raise malformed(shown, reason)
        yield _Line(number, match[1].lower(), match[2], Secret(match[3]))


def _expanded(secret: Secret, where: str, surroundings: Surroundings) -> Secret:
    text = secret.reveal()
    if not text.startswith("$"):
        return secret
    if text.startswith("$("):
        if not surroundings.commands:
            raise CredentialError(
                "commands for passwords are not allowed here",
                context=where,
                hint="write the password or $VARIABLE, or ask the administrator for credential_commands",
                identifier="credential-command",
            )
        return _output(text, where, surroundings)

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = surroundings.environment.get(name)
        if not found:
            raise CredentialError(f"the variable {name} is not set", context=where, hint=f"export {name}")
        return found

    expanded, count = _VARIABLE.subn(value, text)
    if not count:
        raise malformed(where, "the password begins with $ and names no variable")
    return Secret(expanded)


def _output(text: str, where: str, surroundings: Surroundings) -> Secret:
    """What the shell makes of ``$(command)``."""
    environment = {"PATH": DEFAULT_PATH, **without_secrets(surroundings.environment)}
    # A file in memory is the script: what the credentials file says is in no argument, and the
    # command's standard input is empty.
    script = os.memfd_create("command")
    try:
        os.write(script, f'value="{text}"\nprintf %s "$value"\n'.encode())
        done = subprocess.run(
            ["/bin/sh", "-e", f"/proc/self/fd/{script}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=(script,),
            timeout=_TIMEOUT,
        )
        output = done.stdout.decode().strip() if done.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        output = ""
    finally:
        os.close(script)
    if not output:
        raise CredentialError("the command for the password failed", context=where, hint="run it by hand")
    return Secret(output)

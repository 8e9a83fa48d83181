"""Docker's credential helpers: ``docker-credential-NAME get``, the registry on standard input.

The answer is ``{"ServerURL": …, "Username": …, "Secret": …}``; a user name ``<token>`` means that the
secret is an identity token (github.com/docker/docker-credential-helpers). What a helper prints is
never shown, since some of it is a secret.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping

from pinnace.credentials.variables import without_secrets
from pinnace.secret import Credential, Secret

TOKEN_USER = "<token>"
#: Where helpers are looked for if the environment does not say.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREFIX = "docker-credential-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Seconds. Some helpers ask a service or a person.
_TIMEOUT = 60.0
_NOT_FOUND = "credentials not found"


class HelperError(Exception):
    """Why a helper gave nothing, in words without a secret."""


def ask(name: str, server: str, origin: str, environment: Mapping[str, str]) -> Credential | None:
    """What helper ``name`` has for ``server``; ``origin`` is the file that names it. Raises HelperError."""
    if not _NAME.fullmatch(name):
        raise HelperError(f"{origin} names a credential helper that cannot be one")
    program = _PREFIX + name
    search = _search_path(environment)
    path = shutil.which(program, path=search)
    if path is None:
        raise HelperError(f"{program}, which {origin} names, is not installed ({search})")
    status, output = _run(path, server, environment, program)
    if status != 0:
        if _NOT_FOUND in output:
            return None
        check = f"`echo {server} | {program} get` shows why"
        raise HelperError(f"{program}, which {origin} names, failed with status {status}; {check}")
    username, secret = _parsed(output, program)
    source = f"{program} ({origin})"
    if username == TOKEN_USER:
        return Credential(source, identity_token=Secret(secret))
    return Credential(source, username, Secret(secret))


def _run(path: str, server: str, environment: Mapping[str, str], program: str) -> tuple[int, str]:
    # A session of its own: all of it is ended if it takes too long.
    try:
        process = subprocess.Popen(
            [path, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=without_secrets(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise HelperError(f"cannot run {program}: {error.strerror}") from None
    try:
        output, _ = process.communicate(f"{server}\n".encode(), timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise HelperError(f"{program} did not answer within {_TIMEOUT:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, output.decode("utf-8", "replace")


def _parsed(output: str, program: str) -> tuple[str, str]:
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HelperError(f"{program} gave an answer that is not the helpers' JSON") from None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        raise HelperError(f"{program} gave an answer without user name or secret")
    return username, secret


def _search_path(environment: Mapping[str, str]) -> str:
    """The directories of PATH that mean the same wherever the process is."""
    parts = environment.get("PATH", DEFAULT_PATH).split(os.pathsep)
    return os.pathsep.join(part for part in parts if os.path.isabs(part))

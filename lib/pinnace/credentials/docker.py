"""Credentials files in Docker's format, which podman and Pinnace share.

    {"auths": {"HOST[/NAMESPACE]": {"auth": base64 of USER:PASSWORD, "identitytoken": …}},
     "credHelpers": {"HOST": "NAME"}, "credsStore": "NAME"}

Sources: docker/cli ``cli/config/configfile``, containers-auth.json(5). A helper named for the
host comes first, then credsStore, then what the file itself holds, longest key first. A helper that
fails is told and passed over: a home is shared by machines that do not all have it.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from pinnace.credentials import helper, names
from pinnace.credentials.files import Question, Surroundings, malformed, read
from pinnace.secret import Credential, Secret


def find(path: str, question: Question, surroundings: Surroundings) -> Credential | None:
    """What the file ``path`` has for the registry. Raises CredentialError if it is malformed."""
    shown = surroundings.shown(path)
    document = parse(read(path, surroundings) or "", shown)
    credential = _from_helpers(document, shown, question, surroundings)
    if credential is not None:
        return credential
    entries = {names.of_key(key): (key, entry) for key, entry in _entries(document, shown)}
    for scope in names.scopes(question.host, question.repository):
        if scope not in entries:
            continue
        found = _credential(*entries[scope], shown)
        if found is not None and question.user in (None, found.username or question.user):
            surroundings.warn_if_shared(path)
            return found
    return None


def parse(text: str, shown: str) -> dict[str, Any]:
    """The document that a file holds; an empty file is an empty document, as for Docker."""
    try:
        document = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise malformed(shown, f"it is not valid JSON (line {error.lineno})") from None
    except RecursionError:
        raise malformed(shown, "it is nested too deeply") from None
    if not isinstance(document, dict):
        raise malformed(shown, "a JSON object is expected")
    return document


def _entries(document: dict[str, Any], shown: str) -> list[tuple[str, dict[str, Any]]]:
    auths = document.get("auths")
    if auths is None:
        return []
    if not isinstance(auths, dict):
        raise malformed(shown, "auths is no object")
    # Empty entries only say that a helper knows the host. The first spelling of a host wins.
    kept = [(key, entry) for key, entry in auths.items() if entry]
    for key, entry in kept:
        if not isinstance(entry, dict):
            raise malformed(shown, f"auths.{key} is no object")
    return kept[::-1]


def _credential(key: str, entry: dict[str, Any], shown: str) -> Credential | None:
    def text(name: str) -> str:
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise malformed(shown, f"auths.{key}.{name} is no text")
        return value

    def token(name: str) -> Secret | None:
        value = text(name)
        # It becomes a header: nothing may end the line, or be quoted in an error about it.
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise malformed(shown, f"auths.{key}.{name} is no token")
        return Secret(value) if value else None

    username, password = text("username"), text("password")
    if text("auth"):
        username, password = _decoded(text("auth"), f"auths.{key}.auth", shown)
    if username == helper.TOKEN_USER:
        username = ""
    registry_token, identity_token = token("registrytoken"), token("identitytoken")
    if registry_token or identity_token:
        return Credential(shown, username, None, identity_token, registry_token)
    if not username and not password:
        return None
    return Credential(shown, username, Secret(password))


def _decoded(encoded: str, name: str, shown: str) -> tuple[str, str]:
    try:
        username, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        separator = ""
    if not separator:
        raise malformed(shown, f"{name} is not the base64 of USER:PASSWORD")
    return username, password.rstrip("\0")


def _from_helpers(
    document: dict[str, Any], shown: str, question: Question, surroundings: Surroundings
) -> Credential | None:
    for program in helpers(document, question.host, shown):
        try:
            credential = helper.ask(program, names.stored(question.host), shown, surroundings.environment)
        except helper.HelperError as error:
            surroundings.warn(f"warning: {error}")
            continue
        if credential is not None and question.user in (None, credential.username or question.user):
            return credential
    return None


def helpers(document: dict[str, Any], host: str, shown: str) -> list[str]:
    """The names of the helpers that a document names for ``host``."""
    by_host = document.get("credHelpers") or {}
    if not isinstance(by_host, dict):
        raise malformed(shown, "credHelpers is no object")
    found = [name for key, name in by_host.items() if names.of_key(key) == names.canonical(host)]
    found += [document.get("credsStore")]
    if not all(isinstance(name, str) for name in found if name):
        raise malformed(shown, "the name of a credential helper is no text")
    return [name for name in found if name]

"""``PINNACE_REGISTRY``, ``PINNACE_USERNAME`` and ``PINNACE_PASSWORD``: for continuous integration.

The three go together, so that the password is sent to no other registry. Not for jobs: Slurm
records their environment. ``pinnace step`` does not take them from a job.
"""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.credentials import names
from pinnace.credentials.files import Question, Surroundings
from pinnace.errors import CredentialError
from pinnace.secret import Credential, Secret

PASSWORD = "PINNACE_PASSWORD"
_NAMES = ("PINNACE_REGISTRY", "PINNACE_USERNAME", PASSWORD)


def find(question: Question, surroundings: Surroundings) -> Credential | None:
    """What the environment has for the registry. Raises CredentialError if a part is missing."""
    environment = surroundings.environment
    registry, username, password = (environment.get(name, "") for name in _NAMES)
    if not password:
        return None
    for name, value in zip(_NAMES, (registry, username)):
        if not value:
            raise CredentialError(f"{PASSWORD} is set without {name}", hint="set all three or none")
    if names.of_key(registry) not in names.scopes(question.host, question.repository):
        return None
    if question.user not in (None, username):
        return None
    return Credential("PINNACE_PASSWORD in the environment", username, Secret(password))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs that are started: what they might load or log is left out."""
    return {
        name: value
        for name, value in environment.items()
        if name != PASSWORD and not name.startswith(("LD_", "BASH_FUNC_")) and name not in ("BASH_ENV", "ENV")
    }

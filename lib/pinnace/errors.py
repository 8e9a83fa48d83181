"""Every way Pinnace can fail, as one hierarchy.

    PinnaceError
    ├── UsageError            the command line or an option is wrong
    ├── ConfigurationError    a configuration file is wrong
    ├── ReferenceError        an image reference cannot be understood
    ├── RegistryError         a registry refused, lied or could not be reached
    ├── CredentialError       a source of credentials is malformed or not allowed
    ├── ImageError            an image, layer or squashfs file is unusable
    ├── StoreError            the store cannot be read or written
    ├── ContainerError        a container cannot be described or started
    └── HostError             this machine lacks something Pinnace needs

An error is raised where the fact is known, with what happened (``message``), where
(``context``) and what to do (``hint``). It becomes words and an exit code in one place,
``report()``. This module imports nothing from the package, so that everything may use it.
"""

from __future__ import annotations

#: Characters of each part of an error's line.
_LONGEST = 2000


class PinnaceError(Exception):
    """Base of all errors that are shown to a user.

    ``identifier`` is stable and kebab-case: scripts and documentation may refer to it.
    ``exit_code`` is what a command that fails with it returns.
    """

    exit_code = 1
    identifier = "error"

    def __init__(
        self,
        message: str,
        *,
        context: str | None = None,
        hint: str | None = None,
        identifier: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.context = context
        self.hint = hint
        if identifier is not None:
            self.identifier = identifier

    def __str__(self) -> str:
        """The one line a user sees: what, where and what to do."""
        text = _brief(self.message)
        if self.context:
            text += f" ({_brief(self.context)})"
        if self.hint:
            text += f"; {_brief(self.hint)}"
        return one_line(text)

    def as_dict(self) -> dict[str, str | None]:
        """The same facts as data, for ``--json``."""
        return {
            "error": self.identifier,
            "message": self.message,
            "context": self.context,
            "hint": self.hint,
        }


class UsageError(PinnaceError):
    exit_code = 2
    identifier = "usage"


class ConfigurationError(PinnaceError):
    identifier = "configuration"


class ReferenceError(PinnaceError):
    identifier = "reference"


class RegistryError(PinnaceError):
    identifier = "registry"


class CredentialError(PinnaceError):
    identifier = "credentials"


class ImageError(PinnaceError):
    identifier = "image"


class StoreError(PinnaceError):
    identifier = "store"


class ContainerError(PinnaceError):
    identifier = "container"


class HostError(PinnaceError):
    identifier = "host"


def unexpected(error: Exception) -> PinnaceError:
    """The words for a defect of Pinnace itself."""
    return PinnaceError(
        f"internal error: {type(error).__name__}: {error}",
        hint="set PINNACE_DEBUG=1 to see where, and report it",
        identifier="internal",
    )


def _brief(text: str) -> str:
    """``text`` as far as anybody reads it: some of what it quotes is as long as its author likes."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"


def one_line(text: str) -> str:
    """``text`` with control characters made visible, so that it cannot forge lines or move a cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def report(error: PinnaceError) -> str:
    """The text printed on standard error for ``error``."""
    return f"pinnace: error: {error}"

"""What a user has to show to a registry, and where it lies.

keyring.py     the sources in their order; what other packages use
variables.py   the environment, for continuous integration
docker.py      credentials files of Docker, podman and Pinnace itself
helper.py      programs that keep credentials for Docker
enroot.py      enroot's netrc file
saved.py       Pinnace's own file: login and logout
files.py       reading what should be private
names.py       the many spellings of a registry
dumps.py       no core dump while a secret is in memory

All of it runs as the user who owns the credentials. Nothing here goes to a log, an argument, an
environment or a file that others can read; an error names a place, never what is in it. The
registry's side is in ``pinnace.registry.authorization``. Standard library alone.
"""

from pinnace.credentials.keyring import Keyring, find, keyrings

__all__ = ["Keyring", "find", "keyrings"]

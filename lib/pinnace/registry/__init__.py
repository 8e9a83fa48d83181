"""Talking to registries: OCI distribution specification 1.1 and Docker's API version 2.

transport.py   one HTTP exchange: redirects, retries, TLS rules, errors in words
authorization.py   the token flow
client.py      manifests and blobs
"""

from pinnace.registry.client import RegistryClient
from pinnace.registry.transport import Transport

__all__ = ["RegistryClient", "Transport"]

"""Talking to registries: OCI distribution specification 1.1 and Docker's API version 2.

connections.py     TLS rules of each host, proxies, connections that are kept
pace.py            how fast a peer has to send
retry.py           when to try again, as data and arithmetic
transport.py       one HTTP exchange: redirects, retries, errors in words
authorization.py   the right to read; tokens.py   token services
bodies.py, ranges.py, blobs.py   bytes: as they arrive, in parts, after a cut
endpoint.py        one registry or mirror: requests and what the answers mean
deliveries.py      a blob as it is delivered: checked, and taken from elsewhere if it was wrong
client.py          a registry behind its mirrors
"""

from pinnace.registry.client import RegistryClient, connect
from pinnace.registry.transport import Transport

__all__ = ["RegistryClient", "Transport", "connect"]

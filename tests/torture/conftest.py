"""The fixtures of tests/integration."""

from integration.conftest import puller

__all__ = ["puller"]

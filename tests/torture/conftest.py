"""The fixtures of tests/integration."""

from integration.conftest import front, puller

__all__ = ["front", "puller"]

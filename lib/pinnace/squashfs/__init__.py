"""Squashfs files: what they must look like before anything is done with them."""

from pinnace.squashfs.superblock import Superblock, check

__all__ = ["Superblock", "check"]

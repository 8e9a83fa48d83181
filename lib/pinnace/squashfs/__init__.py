"""Squashfs files: what they must look like before anything is done with them, and their metadata.

format.py      structures on disk
superblock.py  the check that a file is squashfs and all there
metadata.py    metadata blocks
reader.py      a file's tree
writer.py      the tables of a new file
"""

from pinnace.squashfs.superblock import Summary, check, is_all_root

__all__ = ["Summary", "check", "is_all_root"]

"""Squashfs files: what they must look like before anything is done with them, and their metadata.

format.py      structures on disk
superblock.py  the check that a file is squashfs and all there
metadata.py    metadata blocks
inodes.py      what is read: entries, inodes, where data lies
reader.py      a file's tree
small.py       many inodes of small files at once
writer.py      the tables of a new file
"""

from pinnace.squashfs.superblock import Summary, check, is_all_root

__all__ = ["Summary", "check", "is_all_root"]

"""The seccomp filter that lets package managers work in a container with a single id.

chown and the set*id family succeed without effect: files belong to the user anyway, and apt or
dpkg would fail otherwise. This is compatibility and no boundary: what it lets pass silently
would have been refused by the kernel. Calls of a foreign architecture fall through to the kernel.

Source: seccomp(2), linux/filter.h, the kernel's system call tables.
"""

from __future__ import annotations

import struct

_ERRNO_0 = 0x00050000  # SECCOMP_RET_ERRNO | 0: "succeeds" without being done
_ALLOW = 0x7FFF0000

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data

#: Audit architecture and numbers of the calls that are answered with success:
#: chown, fchown, lchown, fchownat; setuid, setgid, setreuid, setregid, setgroups, setresuid,
#: setresgid, setfsuid, setfsgid.
_CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (0xC000003E, (92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123)),
    "aarch64": (0xC00000B7, (54, 55, 144, 146, 143, 145, 147, 149, 151, 152, 159)),
}


def program(machine: str) -> bytes:
    """The filter as ``struct sock_filter[]`` in native byte order; empty for an unknown machine."""
    if machine not in _CALLS:
        return b""
    architecture, calls = _CALLS[machine]
    count = len(calls)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 0, count + 1, architecture),
        (_LOAD, 0, 0, _NUMBER),
        *((_JUMP_EQUAL, count - index, 0, number) for index, number in enumerate(calls)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO_0),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)

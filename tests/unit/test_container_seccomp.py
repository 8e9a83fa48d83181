"""The seccomp filter, run by an interpreter of classic BPF."""

from __future__ import annotations

import struct

import pytest

from pinnace.container import seccomp

ALLOW, SUCCEED = 0x7FFF0000, 0x00050000
X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003


def verdict(program: bytes, architecture: int, number: int) -> int:
    data = struct.pack("II", number, architecture)
    instructions = list(struct.iter_unpack("HBBI", program))
    position = accumulator = 0
    while True:
        code, jump_true, jump_false, operand = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("I", data, operand)
        elif code == 0x15:
            position += jump_true if accumulator == operand else jump_false
        else:
            assert code == 0x06
            return int(operand)


@pytest.mark.parametrize("number", [92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123])
def test_changing_owners_and_ids_succeeds_without_effect_on_x86_64(number: int) -> None:
    assert verdict(seccomp.program("x86_64"), X86_64, number) == SUCCEED


@pytest.mark.parametrize("number", [54, 55, 143, 144, 145, 146, 147, 149, 151, 152, 159])
def test_changing_owners_and_ids_succeeds_without_effect_on_aarch64(number: int) -> None:
    assert verdict(seccomp.program("aarch64"), AARCH64, number) == SUCCEED


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_all_other_calls_are_the_kernels_business(machine: str, architecture: int) -> None:
    stopped = sum(verdict(seccomp.program(machine), architecture, number) != ALLOW for number in range(500))
    assert stopped == len(seccomp._CALLS[machine][1])


def test_calls_of_a_foreign_architecture_fall_through() -> None:
    assert verdict(seccomp.program("x86_64"), I386, 92) == ALLOW


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.program("vax") == b""

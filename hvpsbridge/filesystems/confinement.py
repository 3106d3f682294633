"""Limits of processes that parse what a point holds: memory, files, and calls of the kernel (seccomp).

A filter is a short program of classic BPF that the kernel runs at each call; it stays for the life of the
process and of those that it starts (https://docs.kernel.org/userspace-api/seccomp_filter.html). It is made
here, since libseccomp would be one more package for a list of numbers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Iterable

from hvpsbridge.filesystems import system_calls

_MEMORY_BYTES = 1 << 30
_OPEN_FILES = 64

# Flags of open() that write, create or truncate; O_TMPFILE without the bits of O_DIRECTORY.
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000
# Places in the table of numbers, and what the kernel calls the architecture (linux/audit.h).
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# Numbers from here on are those of x32 on x86-64; no architecture here has as many calls.
_X32 = 0x40000000

# linux/filter.h and linux/seccomp.h: load a word, jump if equal, greater or equal, or a bit is set; return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
# struct sock_filter: code, jumps if true and false, value.
_INSTRUCTION = struct.Struct("@HBBI")
# Places in struct seccomp_data; arguments are 8 bytes each, the lower half first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def limit() -> None:
    """Limit memory and open files of this process, and write no core."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def confine_parser() -> bool:
    """Refuse this process all calls but those that read, compute and talk over sockets that are open.

    No network, no other program or process, no file opened for writing. Returns whether the kernel does so.
    """
    rules = [(numbers, _returns(_ALLOW)) for numbers in system_calls.PARSING.values()]
    for numbers, argument in ((system_calls.OPENAT, 2), (system_calls.OPEN, 1)):
        only_reading = (
            _instruction(_LOAD, _ARGUMENTS + 8 * argument)
            + _instruction(_ANY_BIT, _WRITING, otherwise=1)
            + _returns(_REFUSE)
            + _returns(_ALLOW)
        )
        rules.append((numbers, only_reading))
    return _install(rules, _returns(_REFUSE))


def confine_tool() -> bool:
    """Refuse this process and those that it starts the network and other processes' memory."""
    return _install(
        [(numbers, _returns(_REFUSE)) for numbers in system_calls.NETWORK.values()], _returns(_ALLOW)
    )


def _install(rules: Iterable[tuple[system_calls.Numbers, bytes]], otherwise: bytes) -> bool:
    """Install a filter of what happens at which call; False if kernel or machine do not support that."""
    # A program of 32 bits has other numbers than its kernel says.
    if struct.calcsize("P") != 8 or os.uname().machine not in _ARCHITECTURES:
        return False
    column, architecture = _ARCHITECTURES[os.uname().machine]
    matched = b"".join(
        _instruction(_EQUAL, number, otherwise=len(done) // _INSTRUCTION.size) + done
        for numbers, done in rules
        if (number := numbers[column]) is not None
    )
    program = (
        _instruction(_LOAD, _ARCHITECTURE)
        + _instruction(_EQUAL, architecture, then=1)
        + _returns(_REFUSE)
        + _instruction(_LOAD, _NUMBER)
        + _instruction(_AT_LEAST, _X32, otherwise=1)
        + _returns(_REFUSE)
        + matched
        + otherwise
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: number of instructions, and where they are.
    described = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        return False
    done = libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), described, zero, zero)
    return not done


def _returns(action: int) -> bytes:
    return _instruction(_RETURN, action)


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; the jumps say how many instructions to skip."""
    return _INSTRUCTION.pack(code, then, otherwise, value)

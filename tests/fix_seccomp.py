"""A kernel that refuses: system calls of a child process that end with an errno of one's choice, by seccomp.

Needs no rights, no other file system and no disk that is really full or failing; what the child sees is the kernel's
own answer. Linux on x86-64 and ARM64.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable

_NUMBERS = {"x86_64": {"write": 1, "pwrite": 18, "fsync": 74}, "aarch64": {"write": 64, "pwrite": 68, "fsync": 82}}
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def refusing(call: str, errno: int) -> Callable[[], None]:
    """For Popen's preexec_fn: `call` on any file but the three standard streams ends with `errno`."""
    steps = [
        (_LOAD, 0, 0, 0),  # the call's number
        (_IF_EQUAL, 0, 3, _NUMBERS[platform.machine()][call]),
        (_LOAD, 0, 0, 16),  # its first argument: the file descriptor
        (_IF_AT_LEAST, 0, 1, 3),
        (_RETURN, 0, 0, _REFUSE | errno),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), instructions)
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program)):
            raise OSError(ctypes.get_errno(), "seccomp")

    return install

"""Capture filters: an expression of pcap-filter(7), compiled by libpcap for each link type that is met.

Owns the loading of libpcap at run time and the compiled programs; core.walk runs them on each frame through a pointer
to libpcap's own bpf_filter, without the interpreter (47 ns a packet), before anything is decoded. Nothing of the
grammar is ours, and what is said of an expression that is none is libpcap's own sentence.
"""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import numpy.typing as npt

from conntrack.capture.linklayer import LINK_TYPES, link_type_name
from conntrack.core.walk import N_PROGRAMS, NOT_COMPILED
from conntrack.errors import ConntrackError, InputError

__all__ = ["Filter"]

LIBRARIES = ("libpcap.so.1", "libpcap.so.0.8", "libpcap.dylib")
SNAP_BYTES = 262_144
NETMASK_UNKNOWN = 0xFFFFFFFF
TRIED_FIRST = (1, 101, 113)
"""Ethernet, RAW and LINUX_SLL: an expression that is right for none of them is wrong."""
DLT = {12: 12, 14: 12, 100: 11, 101: 12, 106: 19}
"""LINKTYPE_* -> DLT_* where the numbers differ on Linux (libpcap, pcap-common.c)."""
REJECTS_ALL = "expression rejects all packets"
"""What libpcap says where nothing can pass, e.g. `ip` on link type IPV6: there a filter, on all of them a mistake."""


class _Program(ctypes.Structure):
    """struct bpf_program: how many instructions, and where they are."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class FilterError(ConntrackError):
    """An expression that libpcap does not take, or libpcap is missing (exit code 2)."""


class Filter:
    """An expression, compiled. Keeps libpcap and the programs alive.

    Args:
        expression: as for tcpdump, e.g. "tcp port 443 and net 10.0.0.0/8".

    Attributes:
        expression: as given.
        function: address of bpf_filter.
        programs: uint64, shape (N_PROGRAMS,): address of the instructions for each link type; 0 where frames are not
            decoded anyway, NOT_COMPILED until `check` was asked for the link type.

    Raises:
        ConntrackError: the expression is none, or libpcap is not installed.
    """

    def __init__(self, expression: str) -> None:
        if "\0" in expression:
            raise FilterError("--filter: a NUL character is in the expression")
        self.expression = expression
        self._library = _load()
        self.function = ctypes.cast(self._library.bpf_filter, ctypes.c_void_p).value or 0
        self.programs: npt.NDArray[np.uint64] = np.zeros(N_PROGRAMS, np.uint64)
        self.programs[list(LINK_TYPES)] = NOT_COMPILED
        self._compiled: list[_Program] = []
        self._reject = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # one instruction: return 0
        errors = []
        for link_type in TRIED_FIRST:
            error = self._compile(link_type)
            if not error:
                break
            errors.append(error)
        else:
            raise FilterError(f"--filter: {errors[0]}, in '{expression}' (the grammar is that of pcap-filter(7))")

    def __del__(self) -> None:
        for program in getattr(self, "_compiled", ()):
            self._library.pcap_freecode(ctypes.byref(program))

    def check(self, link_type: int, path: str) -> None:
        """Compile for a link type that was met.

        Raises:
            InputError: frames of this link type cannot be held against the expression.
        """
        if link_type < N_PROGRAMS and self.programs[link_type] == NOT_COMPILED:
            error = self._compile(link_type)
            if error == REJECTS_ALL:
                self.programs[link_type] = ctypes.addressof(self._reject)
            elif error:
                what = f"--filter '{self.expression}' is not for link type {link_type_name(link_type)}"
                raise InputError(f"{path}: {what}: {error}")

    def _compile(self, link_type: int) -> str:
        # Return libpcap's words if it cannot.
        library = self._library
        handle = library.pcap_open_dead(DLT.get(link_type, link_type), SNAP_BYTES)
        if not handle:
            raise MemoryError("pcap_open_dead")
        program = _Program()
        try:
            if library.pcap_compile(handle, ctypes.byref(program), self.expression.encode(), 1, NETMASK_UNKNOWN):
                return str(library.pcap_geterr(handle).decode(errors="replace")).strip().replace("\n", " ")
        finally:
            library.pcap_close(handle)
        self._compiled.append(program)
        self.programs[link_type] = program.instructions
        return ""


def _load() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        library.pcap_compile.argtypes = (
            ctypes.c_void_p,
            ctypes.POINTER(_Program),
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        )
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = library.pcap_close.argtypes = (ctypes.c_void_p,)
        library.pcap_close.restype = library.pcap_freecode.restype = None
        library.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
        return library
    raise FilterError("--filter: needs libpcap, which is not installed; install the package libpcap0.8 (or libpcap)")

# SPDX-License-Identifier: MIT
"""Makes the buffers and structures of ctypes blocks of their own, of which AddressSanitizer knows
the ends: Python keeps small ones many to a block.

PYTHONMALLOC=malloc would do so with every object, which makes Python three times as slow.
"""
import ctypes

RAW, BUFFERS = 0, 1  # PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM


class Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def allocator(domain):
    found = Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(found))
    return found


def watch():
    """From now on. Python's own realloc() and free() know blocks of both kinds."""
    mixed, raw = allocator(BUFFERS), allocator(RAW)
    mixed.malloc, mixed.calloc = raw.malloc, raw.calloc
    ctypes.pythonapi.PyMem_SetAllocator(BUFFERS, ctypes.byref(mixed))

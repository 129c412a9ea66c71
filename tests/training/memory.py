"""What the C library holds for this process: neither what it keeps for later nor what others have mapped."""

import ctypes

FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)
KNOWN = hasattr(ctypes.CDLL(None), "mallinfo2")  # glibc 2.33 and later


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def held() -> int:
    """Bytes allocated and not freed, in all arenas and mapped blocks."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Mallinfo
    found = library.mallinfo2()
    return found.uordblks + found.hblkhd

"""Which socket each descriptor of a process is: links of /proc/PID/fd read one after the other, without the GIL.

Owns what such a link says ("socket:[12345]", proc_pid_fd(5)). Python takes as long for each as the kernel does.
"""

from libc.errno cimport ENOENT, errno
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcmp

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t readlinkat(int folder, const char* path, char* target, size_t size)

cdef enum:
    MOST = 48                   # octets of a link that are looked at: "socket:[", 20 digits and "]"
    BEGIN = 8


cdef void _name(int32_t number, char* name) noexcept nogil:
    # Write a number, not negative, in decimal.
    cdef char digits[12]
    cdef int n = 0
    while True:
        digits[n] = 48 + number % 10
        n += 1
        number //= 10
        if not number:
            break
    while n:
        n -= 1
        name[0] = digits[n]
        name += 1
    name[0] = 0


cdef uint64_t _inode(const char* target, Py_ssize_t size) noexcept nogil:
    # The inode in "socket:[inode]"; 0 for anything else.
    cdef uint64_t inode = 0
    cdef Py_ssize_t i
    if size < BEGIN + 2 or memcmp(target, b"socket:[", BEGIN) or target[size - 1] != 93:
        return 0
    for i in range(BEGIN, size - 1):
        if not 48 <= target[i] <= 57:
            return 0
        inode = 10 * inode + <uint64_t>(target[i] - 48)
    return inode


def socket_inodes(int folder, const int32_t[::1] numbers, uint64_t[::1] inodes, bint stop):
    """Write the inode of the socket that each descriptor is to `inodes`, 0 where it is none.

    Args:
        folder: a descriptor of the open /proc/PID/fd.
        numbers: of descriptors there, none negative: int32, shape (n,).
        inodes: uint64, shape (n,).
        stop: at the first that is not there; else such are none.

    Returns:
        How many were read: n, or as many as came before the first that is not there.

    Raises:
        ValueError: the arrays do not fit, or a number is negative.
        OSError: a link cannot be read.
    """
    cdef Py_ssize_t n = numbers.shape[0]
    cdef Py_ssize_t i, size
    cdef int failed = 0
    cdef char name[12]
    cdef char target[MOST]
    if inodes.shape[0] != n:
        raise ValueError(f"{n} descriptors do not go into {inodes.shape[0]} places")
    for i in range(n):
        if numbers[i] < 0:
            raise ValueError(f"{numbers[i]} is no descriptor")
    i = 0
    with nogil:
        while i < n:
            _name(numbers[i], name)
            size = readlinkat(folder, name, target, MOST)
            if size < 0 and errno != ENOENT:
                failed = errno
                break
            if size < 0 and stop:
                break
            inodes[i] = _inode(target, size)
            i += 1
    if failed:
        raise OSError(failed, "a descriptor cannot be read")
    return i

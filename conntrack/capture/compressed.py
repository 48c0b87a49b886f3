"""Compressed captures: decompressed by libraries, in a thread ahead of the parser, as a stream.

Owns which compression is which, told by its first bytes, and the thread. A bounded number of chunks is ahead, so memory
does not follow what comes out: a decompression bomb is a long capture and nothing else. Several members one after the
other (as `cat a.gz b.gz` makes them) are one, zeros between and after them are padding (RFC 1952 section 2.2, gzip(1),
xz(1)). All libraries have the interface of the standard library's decompressors.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from conntrack.capture.stream import Bytes
from conntrack.errors import CaptureError, InputError

__all__ = ["Codec", "Decompressed", "codec_of"]

CHUNK_BYTES = 1 << 17
"""Of what comes out at once. Measured: the thread that decompresses works 8 % longer than the decompressor would alone.
With twice as much 12 %, since the allocator gives chunks of that size back to the system and asks for others; with half
as much 12 %, for handing them over."""
CHUNKS_AHEAD = 16
READ_BYTES = 1 << 17
MOST_XZ_BYTES = 1 << 27
"""Memory that xz may ask for: its strongest preset needs 65 MiB."""
WAIT_S = 0.2
"""How long at most a pipe is waited for before the thread looks whether it is still wanted."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One compression.

    Attributes:
        name: in words.
        magics: what a member begins with.
        make: returns a new decompressor; ImportError if its library is missing.
        package: what to install then.
    """

    name: str
    magics: tuple[bytes, ...]
    make: Callable[[], Any]
    package: str

    def begins(self, head: bytes) -> bool:
        """Return whether `head` is the start of a member."""
        return head.startswith(self.magics)


def _gzip() -> Any:
    igzip = import_module("isal.igzip_lib")
    return igzip.IgzipDecompressor(flag=igzip.DECOMP_GZIP)


def _zstd() -> Any:
    try:
        return import_module("compression.zstd").ZstdDecompressor()  # from Python 3.14
    except ImportError:
        return import_module("backports.zstd").ZstdDecompressor()


def _lz4() -> Any:
    return import_module("lz4.frame").LZ4FrameDecompressor()


def _xz() -> Any:
    lzma = import_module("lzma")
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_XZ_BYTES)


def _bz2() -> Any:
    return import_module("bz2").BZ2Decompressor()


# RFC 1952, RFC 8878 (and its skippable frames, which LZ4 shares), the LZ4 frame format, the .xz format 2.1.1, bzip2(1).
_SKIPPABLE = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))
CODECS = (
    Codec("gzip", (b"\x1f\x8b\x08",), _gzip, "isal"),
    Codec("Zstandard", (b"\x28\xb5\x2f\xfd", *_SKIPPABLE), _zstd, "backports.zstd"),
    Codec("LZ4", (b"\x04\x22\x4d\x18",), _lz4, "lz4"),
    Codec("xz", (b"\xfd7zX",), _xz, "a Python with lzma"),
    Codec("bzip2", tuple(b"BZh%d" % level for level in range(1, 10)), _bz2, "a Python with bz2"),
)
MAGIC_BYTES = 4


def codec_of(head: bytes) -> Codec | None:
    """Return the compression that begins with these (four) bytes, None when none does."""
    return next((codec for codec in CODECS if codec.begins(head)), None)


class Decompressed:
    """What is inside of a compressed input: `stream.Bytes` made of `stream.Bytes`.

    Args:
        path: the input's name, for what is said of damage.
        source: the compressed bytes; closed with this.
        head: those of them that were read already.
        codec: how they are compressed.

    Raises:
        InputError: the library that decompresses it is not installed.
    """

    def __init__(self, path: str, source: Bytes, head: bytes, codec: Codec) -> None:
        try:
            codec.make()
        except ImportError:
            raise InputError(
                f"{path}: {codec.name} data; install {codec.package} to read it (pip install {codec.package})"
            ) from None
        self.live = source.live
        self._path = path
        self._source = source
        self._codec = codec
        self._chunks: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(CHUNKS_AHEAD):
            self._places.put(None)
        self._chunk = memoryview(b"")
        self._ended = False
        self._room = memoryview(bytearray(READ_BYTES))
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(head,), name=f"decompress {path}", daemon=True)
        self._thread.start()

    @property
    def raw_bytes(self) -> int:
        return self._source.raw_bytes

    def readinto(self, room: memoryview) -> int:
        if not self._next(None):
            return 0
        size = min(len(room), len(self._chunk))
        room[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size

    def ready(self, timeout_s: float) -> bool:
        try:
            self._next(timeout_s)
        except queue.Empty:
            return False
        except CaptureError as error:  # for readinto to raise
            self._chunks.put(error)
            self._ended = False
        return True

    def close(self) -> None:
        self._unwanted.set()
        self._places.put(None)
        self._thread.join()
        self._source.close()

    def _next(self, timeout_s: float | None) -> bool:
        # Have bytes in self._chunk; False at the end.
        if self._chunk or self._ended:
            return bool(self._chunk)
        chunk = self._chunks.get(timeout=timeout_s) if timeout_s != 0 else self._chunks.get_nowait()
        if isinstance(chunk, BaseException):
            self._ended = True
            raise chunk
        self._places.put(None)
        self._chunk, self._ended = memoryview(chunk), not chunk
        return bool(chunk)

    def _run(self, head: bytes) -> None:
        end: bytes | BaseException = b""
        try:
            self._decompress(head)
        except _Unwanted:
            return
        except OSError as error:
            at = self._source.raw_bytes
            end = CaptureError(self._path, at, f"cannot be read on at offset {at}: {error.strerror}")
        except BaseException as error:
            end = error
        self._chunks.put(end)

    def _decompress(self, data: bytes) -> None:
        codec, members = self._codec, 0
        while True:
            # Between members: padding, the next member, the end, or something else.
            data = data.lstrip(b"\0") if members else data
            while len(data) < MAGIC_BYTES:
                read = self._read()
                if not read:
                    break
                data = (data + read).lstrip(b"\0") if members else data + read
            if not codec.begins(data):
                if not data and members:
                    return
                raise self._fault(f"what follows the {codec.name} data is not {codec.name}", len(data))
            member = codec.make()
            members += 1
            while not member.eof:
                try:
                    chunk = member.decompress(data, CHUNK_BYTES)
                except (EOFError, MemoryError):
                    raise
                except Exception as error:  # each library has its own
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise self._fault(f"damaged {codec.name} data ({reason})", 0) from None
                if chunk:
                    self._put(chunk)
                data = b""
                if member.needs_input and not member.eof:
                    data = self._read()
                    if not data:
                        raise self._fault(f"cut short in the {codec.name} data", 0)
            data = member.unused_data or b""

    def _fault(self, what: str, unused: int) -> CaptureError:
        at = self._source.raw_bytes - unused
        return CaptureError(self._path, at, f"{what}, offset {at} of the compressed file; what came before was used")

    def _read(self) -> bytes:
        while not self._source.ready(WAIT_S):
            if self._unwanted.is_set():
                raise _Unwanted
        size = self._source.readinto(self._room)
        return bytes(self._room[:size])

    def _put(self, chunk: bytes) -> None:
        self._places.get()
        if self._unwanted.is_set():
            raise _Unwanted
        self._chunks.put(chunk)


class _Unwanted(Exception):
    """Nobody reads on."""

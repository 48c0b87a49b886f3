"""Captures in formats that are not ours to parse: through Wireshark's editcap, in a pipe, into our own reader.

Owns the process. pcapng is asked for, not pcap: it keeps nanoseconds, interfaces, and link types that differ from
packet to packet, where editcap refuses to write pcap. editcap is run on files that look like another capture, or like
nothing known; never on text or an archive (kinds.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from conntrack.errors import CaptureError, InputError

__all__ = ["Converted", "find_editcap"]

PACKAGE = "wireshark-common"
"""Of Debian and Ubuntu; wireshark-cli elsewhere."""


def find_editcap() -> str | None:
    """Return where editcap is, None if it is not installed."""
    return shutil.which("editcap")


class Converted:
    """A file as pcapng, while editcap writes it: `stream.Bytes`.

    Args:
        path: the file.
        name: what it looks like, for what is said if it cannot be read.
        editcap: where the program is.
    """

    live = False  # it writes as fast as it can

    def __init__(self, path: str, name: str, editcap: str) -> None:
        self._path = path
        self._name = name
        self._size = os.stat(path).st_size
        self._written = 0
        self.raw_bytes = 0
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            [editcap, "-F", "pcapng", path if os.path.isabs(path) else os.path.join(".", path), "-"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._words,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us: what it has written is still read
        )

    def readinto(self, room: memoryview) -> int:
        assert self._process.stdout is not None
        size: int = self._process.stdout.readinto(room) or 0  # type: ignore[attr-defined]
        self._written += size
        self.raw_bytes = self._size if not size else min(self._written, self._size)
        if not size and self._process.wait():
            raise self._fault()
        return size

    def ready(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
        self._words.close()

    def _fault(self) -> CaptureError | InputError:
        self._words.seek(0)
        words = self._words.read(4096).decode(errors="replace").replace(self._path, "")
        reason = " ".join(words.removeprefix("editcap:").split()) or f"exit code {self._process.returncode}"
        if self._written == 0:
            return InputError(f"{self._path}: {self._name}, which editcap cannot read either ({reason})")
        return CaptureError(
            self._path, self._written, f"editcap could not read on ({reason}); what came before was used"
        )

"""The errors that users see: one line each, subject first, next step last. Imports nothing."""

from __future__ import annotations

__all__ = ["CaptureError", "ConntrackError", "InputError"]


class ConntrackError(Exception):
    """Base of every error raised on purpose. `exit_code` is what the command line ends with."""

    exit_code = 2


class InputError(ConntrackError):
    """An input that cannot be opened or is of no supported kind (exit code 2)."""


class CaptureError(ConntrackError):
    """An input that is damaged or cut short; what came before it was used (exit code 3).

    Attributes:
        path: the input's name as the user gave it ("-" for standard input).
        offset: byte offset of the fault in the (decompressed) input.
    """

    exit_code = 3

    def __init__(self, path: str, offset: int, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.offset = offset
        self._message = message

    def __reduce__(self) -> tuple[type[CaptureError], tuple[str, int, str]]:
        """For other processes."""
        return CaptureError, (self.path, self.offset, self._message)

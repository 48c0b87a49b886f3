"""The entry of the command: `ctrack`, `tcp-conntrack` and `python -m conntrack`.

Owns what Ctrl-C does before the command can say a word, and after it has: it ends the process as it ends any other,
instead of with a traceback of Python's start or end.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["start"]


def start() -> int:
    """Run the command and return its exit code."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so in the background of a script
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from conntrack.cli import main

    try:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return main()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(start())

"""The entry of the command: `ctrack`, `tcp-conntrack` and `python -m conntrack`.

Owns what Ctrl-C does before the command can say a word, and after it has: it ends the process as it ends any other,
instead of with a traceback of Python's start or end. And what numpy need not start: the command multiplies no
matrices, and the threads that OpenBLAS has ready for that, one for each core, cost 30 to 50 ms of a short run.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["start"]


def start() -> int:
    """Run the command and return its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when numpy is imported
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

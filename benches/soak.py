"""A soak: live traffic for as long as is asked, with rotation, stalls and signals; then the same packets in one go.

    python -m benches.soak --seconds 3600

Two commands take the same packets: `ctrack live -`, which keeps them (-w), and `ctrack report --follow` on files that
are rotated. They are stopped and continued, and told of another size of the terminal, again and again. What must hold:
neither takes more memory in the last third than in the second, beyond ALLOWED_BYTES, nor more descriptors, and both say
in the end what `ctrack report` says of the packets that were kept. The account is kept in benches/results/.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benches.record import RESULTS, commit, machine
from conntrack.generate import generate

__all__ = ["ALLOWED_BYTES", "soak"]

ALLOWED_BYTES = 32 << 20
ROTATED_PACKETS = 20_000
_HEADER, _RECORD = 24, 16
_STEP_S = 0.1
_LOOK_S = 0.5
"""Between two looks at whether the last file was read: what follows the files looks at them four times a second."""


def _records(connections: int) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
    """The header of a capture, its packets as (seconds, microseconds, rest), and how many seconds it lasts."""
    out = io.BytesIO()
    generate(out, connections=connections, seed=17)
    data = out.getvalue()
    found, at = [], _HEADER
    while at < len(data):
        seconds, micros, size = struct.unpack_from("<III", data, at)
        found.append((seconds, micros, data[at + 8 : at + _RECORD + size]))
        at += _RECORD + size
    return data[:_HEADER], found, found[-1][0] - found[0][0] + 1


def _usage(pid: int) -> tuple[int, int]:
    """Resident bytes, and descriptors, of a process."""
    pages = int(Path("/proc", str(pid), "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc", str(pid), "fd").iterdir()))


def _wait_until_read(process: subprocess.Popen[bytes], path: Path) -> None:
    """Return when a process has read a file to its end, and has looked for more since: it has taken that in by then."""
    own = Path("/proc", str(process.pid))
    reads = 0
    while process.poll() is None:
        before, reads = reads, 0
        with suppress(FileNotFoundError):  # closed between two lines
            for link in (own / "fd").iterdir():
                offset = int((own / "fdinfo" / link.name).read_text().split()[1])
                if link.readlink() == path and offset == path.stat().st_size:
                    reads = int((own / "io").read_text().split("syscr:")[1].split()[0])
        if reads > before > 0:
            return
        time.sleep(_LOOK_S)


def _answer(document: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the traffic: all but names of files, how the reading went, what was kept less of."""
    capture = {
        name: document["capture"][name] for name in ("packets", "tcp_segments", "first_ts", "last_ts", "skipped")
    }
    connections = {name: told for name, told in document["connections"].items() if name != "summarised"}
    return {"connections": connections, "findings": document["findings"], "capture": capture}


def soak(
    seconds: float,
    packets_a_second: int,
    *,
    rotated_packets: int = ROTATED_PACKETS,
    connections: int = 2_000,
    seed: int = 1,
) -> dict[str, Any]:
    """Run it.

    Returns:
        "packets", "files", "signals"; "live" and "follow": {"bytes", "descriptors"} most in the second and the last
        third, "code", and "same": whether the answer is that of all packets at once.
    """
    chance = random.Random(seed)
    header, packets, lasts_s = _records(connections)
    with tempfile.TemporaryDirectory() as name, ExitStack() as ends:
        folder = Path(name)
        ring = folder / "ring"
        ring.mkdir()
        ctrack = [sys.executable, "-m", "conntrack"]
        first = ring / "ring_000000.pcap"
        first.write_bytes(header)
        words = ["live", "-", "-w", str(folder / "kept.pcap"), "-o", str(folder / "live.json"), "--every", "1"]
        live = subprocess.Popen([*ctrack, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        ends.callback(live.kill)
        words = ["report", "--follow", str(ring), "-o", str(folder / "follow.json")]
        follow = subprocess.Popen([*ctrack, *words])
        ends.callback(follow.kill)
        assert live.stdin is not None
        live.stdin.write(header)
        begun_s = time.monotonic()
        out = first.open("ab")
        most: dict[str, list[tuple[int, int]]] = {"live": [(0, 0)] * 3, "follow": [(0, 0)] * 3}
        sent = files = signals = 0
        while (elapsed_s := time.monotonic() - begun_s) < seconds:
            piece = []
            for _ in range(int(packets_a_second * _STEP_S)):
                turn, number = divmod(sent, len(packets))
                at_s, micros, rest = packets[number]
                piece.append(struct.pack("<II", at_s + turn * lasts_s, micros) + rest)
                sent += 1
                if sent % rotated_packets == 0:
                    out.write(b"".join(piece))
                    live.stdin.write(b"".join(piece))
                    piece = []
                    out.close()
                    files += 1
                    out = (ring / f"ring_{files:06}.pcap").open("wb")
                    out.write(header)
            data = b"".join(piece)
            cut = chance.randrange(len(data) + 1)  # a record in two writes
            for part in (data[:cut], data[cut:]):
                out.write(part)
                out.flush()
                live.stdin.write(part)
                live.stdin.flush()
            if chance.random() < 0.1:
                process = chance.choice((live, follow))
                process.send_signal(signal.SIGWINCH)
                process.send_signal(signal.SIGSTOP)
                time.sleep(chance.random() * _STEP_S)
                process.send_signal(signal.SIGCONT)
                signals += 1
            third = min(int(3 * elapsed_s / seconds), 2)
            for which, process in (("live", live), ("follow", follow)):
                size, descriptors = _usage(process.pid)
                most[which][third] = max(most[which][third][0], size), max(most[which][third][1], descriptors)
            time.sleep(_STEP_S)
        out.close()
        live.stdin.close()
        codes = {"live": live.wait(600)}
        _wait_until_read(follow, max(path for path in ring.iterdir() if path.stat().st_size > _HEADER))
        follow.send_signal(signal.SIGINT)
        codes["follow"] = follow.wait(600)
        answers = {which: json.loads((folder / f"{which}.json").read_text()) for which in codes}
        for which, inputs in (("live", [str(folder / "kept.pcap")]), ("follow", ["-r", str(ring)])):
            done = subprocess.run([*ctrack, *inputs, "--format", "json"], stdout=subprocess.PIPE, check=True)
            answers[f"{which} at once"] = json.loads(done.stdout)
        return {
            "packets": sent,
            "files": files + 1,
            "signals": signals,
            **{
                which: {
                    "bytes": [most[which][1][0], most[which][2][0]],
                    "descriptors": [most[which][1][1], most[which][2][1]],
                    "code": codes[which],
                    "same": _answer(answers[which]) == _answer(answers[f"{which} at once"]),
                }
                for which in codes
            },
        }


@click.command()
@click.option("--seconds", default=3600.0, show_default=True)
@click.option("--rate", default=5_000, show_default=True, help="Packets a second.")
def command(seconds: float, rate: int) -> None:
    """Soak, print the account and keep it; end with 1 if something does not hold."""
    account = soak(seconds, rate)
    now = datetime.now(UTC)
    about = {"schema": 1, "date": now.isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    text = json.dumps({**about, "seconds": seconds, "rate": rate, **account}, indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"soak-{now:%Y-%m-%d}-{commit()}-{round(seconds)}s.json").write_text(text)
    print(text, end="")
    sys.exit(not all(_holds(account[which]) for which in ("live", "follow")))


def _holds(one: dict[str, Any]) -> bool:
    (second, last), (before, after) = one["bytes"], one["descriptors"]
    return one["same"] and last <= second + ALLOWED_BYTES and after <= before


if __name__ == "__main__":
    command()

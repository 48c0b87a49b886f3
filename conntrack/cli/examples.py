"""The examples at the end of each command's --help. Every line of them is run by tests/unit/test_cli_help.py.

FILE names: big.pcap is a capture, ss.txt what `ss -tan` said; whatever else is read or written is named in the line
itself.
"""

from __future__ import annotations

__all__ = ["EXAMPLES", "examples"]

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "report": (
        ("ctrack big.pcap", "what is wrong, on the terminal"),
        ("ctrack big.pcap -o report.html", "the same as one page, to look into and to hand on"),
        ("ctrack report big.pcap --format json --fail-on critical", "for a script: exit code 1 if it is that bad"),
        ("ctrack report big.pcap --threshold syn_backlog=128", "the service asked for a backlog of 128 in listen()"),
        ("cat big.pcap | ctrack -", "from a pipe, as of ssh HOST tcpdump -w -"),
    ),
    "flows": (
        ("ctrack flows big.pcap --format csv -o flows.csv", "every connection, every column"),
        ('ctrack flows big.pcap --where "server_state=CLOSE_WAIT"', "those that the server has not closed"),
        ('ctrack flows big.pcap --where "client_ip=10.0.0.0/8, duration_s>60"', "long ones from one network"),
    ),
    "sockets": (
        ("ctrack sockets big.pcap --host 10.9.0.2 --at 06:16:00", "what ss -tan said on that host at that time"),
        ('ctrack sockets big.pcap --where "state=SYN_RECEIVED"', "half open when the capture ended"),
        ("ctrack sockets --format ndjson -o now.ndjson", "this host now, from the kernel, to compare with later"),
    ),
    "host": (
        ("ctrack host", "what is wrong on this host, now"),
        ("ctrack host --for 3s --format json -o host.json", "what grows within 3 s, for a script"),
        ("ctrack host --for 0s --threshold close_wait_age_s=10", "one look; 10 s in CLOSE_WAIT are a leak"),
    ),
    "explain": (
        ("ctrack explain big.pcap --flow 4", "the connection that begins with frame 4"),
        ("ctrack explain big.pcap --between 10.9.0.1:54868 10.9.0.2:8080", "all connections between two endpoints"),
    ),
    "info": (
        ("ctrack info big.pcap", "how it was taken, and what of it cannot be tracked"),
        ("ctrack info big.pcap --format json", "the same for a script"),
    ),
    "compare": (
        (
            "ctrack compare big.pcap --with ss.txt --at 06:15:20 -o differ.txt",
            "'ss -tan > ss.txt' was run on the host then",
        ),
    ),
    "live": (
        ("ctrack live -i lo --for 2", "what is wrong on an interface, for two seconds; Ctrl-C ends it otherwise"),
        ("ctrack live -i lo --filter 'tcp port 443' -w lo.pcapng --for 2", "one port only; the packets are kept"),
        ("cat big.pcap | ctrack live - --format ndjson", "events for a script, as of ssh HOST tcpdump -w -"),
    ),
    "states": (("ctrack states --format markdown", "the table of both halves of the machine"),),
    "bench": (("ctrack bench --connections 2000 --format json", "a quick look; without the option it is steadier"),),
    "generate": (
        ("ctrack generate flood.pcap --scenario syn-flood --truth flood.json", "a flood, and what is true of it"),
        ("ctrack generate - --scenario healthy | ctrack -", "try a report without a capture of your own"),
    ),
}
"""By command: what to type, and what for."""


def examples(command: str) -> str:
    """Return the examples of a command as the end of its help, lines as they stand."""
    lines = (f"  {line}\n      {what}" for line, what in EXAMPLES[command])
    return "\b\nExamples:\n" + "\n".join(lines)

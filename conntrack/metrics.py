"""Numbers for Prometheus, by its own client library: a server that asks for them when it is asked.

Owns the address that is listened on. What the numbers are is said by whoever has them (cli/live_metrics.py): `serve` is
handed a function that returns metric families. Read https://prometheus.io/docs/instrumenting/writing_exporters/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from conntrack.errors import InputError

__all__ = ["parse_listen", "serve"]

LOOPBACK = "127.0.0.1"
"""Where is listened when only a port is given: whoever wants to be reached from elsewhere says so."""


def parse_listen(text: str) -> tuple[str, int]:
    """Return address and port of "PORT", ":PORT", "ADDRESS:PORT" or "[V6]:PORT".

    Raises:
        InputError: it is none of them.
    """
    address, _, port = text.rpartition(":")
    bracketed = address.startswith("[") and address.endswith("]")
    bare = address[1:-1] if bracketed else address
    try:
        number = int(port) if port.isascii() and port.isdigit() else -1
        if address and (ipaddress.ip_address(bare).version == 6) != bracketed:
            raise ValueError
        if not 0 <= number <= 65_535:
            raise ValueError
    except ValueError:
        raise InputError(f"--listen: '{text}' is no address; write 9100, 127.0.0.1:9100 or [::1]:9100") from None
    return bare or LOOPBACK, number


def serve(listen: str, collect: Callable[[], Iterable[Any]]) -> tuple[str, Callable[[], None]]:
    """Serve metrics over HTTP, in a thread, until told to stop.

    Args:
        listen: as for parse_listen; port 0 takes a free one.
        collect: returns prometheus_client's metric families; called in the thread of the server.

    Returns:
        The URL, and what ends it.

    Raises:
        InputError: prometheus_client is not installed, or the address cannot be listened on.
    """
    address, port = parse_listen(listen)
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
        from prometheus_client.registry import Collector
    except ImportError:
        raise InputError("--listen: prometheus_client is not installed; pip install 'tcp-conntrack[metrics]'") from None

    class Ours(Collector):
        def collect(self) -> Iterable[Any]:
            return collect()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ours())
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise InputError(f"--listen: {listen}: {(error.strerror or str(error)).lower()}; give another one") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    shown = f"[{address}]" if ":" in address else address
    return f"http://{shown}:{server.server_port}/metrics", stop

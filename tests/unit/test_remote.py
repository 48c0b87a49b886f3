"""Captures in an object store and on a web server, both real and on loopback: the rows of the same file here."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from fsspec.config import conf
from moto.server import ThreadedMotoServer
from tracked import sorted_bytes

from conntrack import cluster
from conntrack.capture import open_capture
from conntrack.cli import main
from conntrack.errors import InputError
from conntrack.generate import generate
from conntrack.pipeline import flow_batches
from conntrack.tracker import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")  # botocore's and aiohttp's own


def connections(*paths: object) -> bytes:
    with open_capture([str(path) for path in paths]) as capture:
        rows = sorted_bytes(flow_batches(capture, Tracker()))
        assert not capture.info.faults
        return rows


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "mixed.pcap"
    with path.open("wb") as out:
        generate(out, scenario="mixed", connections=1500)
    return path


@pytest.fixture(scope="module")
def bucket(capture: Path) -> Iterator[str]:
    """A bucket with the capture in an S3 server of its own, and fsspec told where that is."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="captures")
    client.put_object(Bucket="captures", Key="mixed.pcap", Body=capture.read_bytes())
    client.put_object(Bucket="captures", Key="empty.pcap", Body=b"")
    before = dict(conf)
    conf["s3"] = {"endpoint_url": address, "key": "a", "secret": "b"}
    yield "s3://captures"
    conf.clear()
    conf.update(before)
    server.stop()


class TestObjectStore:
    def test_the_same_connections(self, bucket: str, capture: Path) -> None:
        assert connections(f"{bucket}/mixed.pcap") == connections(capture)

    def test_read_in_chunks_by_workers(self, bucket: str, capture: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            flows = cluster.track(f"{bucket}/mixed.pcap", executor=pool, workers=2, chunk_bytes=200_000)
            assert sorted_bytes(flows) == connections(capture)

    def test_what_is_not_there(self, bucket: str) -> None:
        with pytest.raises(InputError, match=r"s3://captures/none.pcap: no such file"):
            open_capture([f"{bucket}/none.pcap"])
        with pytest.raises(InputError, match=r"s3://captures/empty.pcap: empty file"):
            open_capture([f"{bucket}/empty.pcap"])

    def test_an_address_without_a_driver(self) -> None:
        with pytest.raises(InputError, match=r"nosuch://a/b: .*nosuch"):
            open_capture(["nosuch://a/b"])


@contextmanager
def web_server(content: bytes, most_bytes: int) -> Iterator[str]:
    """Serve `content` at an address, by ranges; after `most_bytes` connections break off."""
    left = [most_bytes]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            part = content[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            self.wfile.write(part[: max(left[0], 0)])
            left[0] -= len(part)
            if left[0] < 0:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/mixed.pcap"
    server.shutdown()
    server.server_close()


class TestWebServer:
    def test_the_same_connections(self, capture: Path) -> None:
        with web_server(capture.read_bytes(), 1 << 30) as address:
            assert connections(address) == connections(capture)

    @pytest.mark.parametrize("options", [[], ["--workers", "1"]], ids=["here", "workers"])
    def test_that_breaks_off(self, capture: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
        with web_server(capture.read_bytes(), 1_700_000) as address:
            assert main(["report", *options, address]) == 3
        told = capsys.readouterr()
        assert told.err.count("\n") == 1
        assert told.err.startswith(f"ctrack: {address}: cannot be read on at offset ")
        assert "Connections" in told.out or "connections" in told.out

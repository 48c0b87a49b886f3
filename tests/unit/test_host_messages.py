"""The kernel's answers, made by hand: what each field becomes, and that no length in them is believed."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from inet_diag import CGROUP_ID, DONE, ERROR, INFO, NOOP, SEQUENCE, SKMEMINFO, attribute, diag, message, tcp_info

from conntrack.addresses import ip_text
from conntrack.core.abi import SOCKET_DTYPE
from conntrack.host import messages, netlink
from conntrack.host.messages import HOST_SOCKET_DTYPE
from conntrack.states import NO_TIME_NS, Evidence, TcpState

NOW = 1_763_726_400 * 10**9
MS = 10**6
FIN_TIMEOUT_S = 60


def answer() -> messages.Answer:
    linger_ns = np.zeros(16, np.int64)
    linger_ns[5], linger_ns[6] = FIN_TIMEOUT_S * 10**9, 60 * 10**9
    return messages.Answer(SEQUENCE, NOW, netlink._STATES, netlink._clocks(), linger_ns)


def read(raw: bytes, room: int = 16) -> tuple[np.ndarray[Any, Any], int]:
    rows = np.zeros(room, HOST_SOCKET_DTYPE)
    filled, end = answer().read(raw, rows, 0)
    return rows[:filled], end


def one(body: bytes) -> Any:
    rows, end = read(message(body) + message(b"", DONE))
    assert end == messages.DONE
    (row,) = rows
    return row


def test_the_row_begins_as_that_of_a_capture() -> None:
    for name in SOCKET_DTYPE.names or ():
        if name != "pad0":
            assert (HOST_SOCKET_DTYPE.fields or {})[name] == (SOCKET_DTYPE.fields or {})[name]


def test_every_field_of_a_message() -> None:
    row = one(
        diag(
            1,
            timer=(1, 204, 3),
            queues=(11, 22),
            cookie=0xABCDEF0123456789,
            uid=1000,
            inode=4242,
            attributes=attribute(CGROUP_ID, struct.pack("=Q", 2**40 + 1))
            + attribute(SKMEMINFO, struct.pack("=9I", *range(100, 109)))
            + attribute(8, b"\3")  # INET_DIAG_SHUTDOWN, padded
            + attribute(
                INFO,
                tcp_info(
                    last_data_sent=5_000,
                    last_data_recv=700,
                    last_ack_recv=900,
                    rtt=1_500,
                    total_retrans=9,
                    bytes_sent=2**40,
                    bytes_received=77,
                ),
            ),
        )
    )
    assert TcpState(row["state"]) is TcpState.ESTABLISHED
    assert ip_text(row["local_ip"], row["ip_version"]) == "10.0.0.2"
    assert ip_text(row["remote_ip"], row["ip_version"]) == "10.0.0.1"
    assert (row["local_port"], row["remote_port"], row["ip_version"]) == (80, 40_000, 4)
    assert (row["timer"], row["timer_ns"], row["timeouts"]) == (1, 204 * MS, 3)
    assert (row["recv_queue"], row["send_queue"], row["uid"], row["inode"]) == (11, 22, 1000, 4242)
    assert row["flow_id"] == 0xABCDEF0123456789
    assert row["cgroup_id"] == 2**40 + 1
    assert row["drops"] == 108
    assert (row["idle_ns"], row["rtt_ns"], row["retransmits"]) == (700 * MS, 1_500_000, 9)
    assert (row["sent_bytes"], row["received_bytes"]) == (2**40, 77)
    assert (row["at_ts_ns"], row["evidence"], row["pid"]) == (NOW, Evidence.SEEN, -1)
    assert row["since_ts_ns"] == NO_TIME_NS  # no clock tells when a connection was established


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (1, "ESTABLISHED"),
        (2, "SYN_SENT"),
        (3, "SYN_RECEIVED"),
        (4, "FIN_WAIT_1"),
        (5, "FIN_WAIT_2"),
        (6, "TIME_WAIT"),
        (7, "CLOSED"),
        (8, "CLOSE_WAIT"),
        (9, "LAST_ACK"),
        (10, "LISTEN"),
        (11, "CLOSING"),
        (12, "SYN_RECEIVED"),
    ],
)
def test_every_state_of_the_kernel_has_its_name(number: int, state: str) -> None:
    assert TcpState(one(diag(number))["state"]).name == state


@pytest.mark.parametrize("number", [0, 13, 15, 16, 255])
def test_a_state_that_is_none_is_left_out_and_counted(number: int) -> None:
    rows = np.zeros(4, HOST_SOCKET_DTYPE)
    reader = answer()
    assert reader.read(message(diag(number)) + message(diag(1)), rows, 0) == (1, messages.MORE)
    assert reader.skipped == 1
    assert rows["state"][0] == TcpState.ESTABLISHED


@pytest.mark.parametrize("state", [5, 8])
def test_the_last_ack_tells_since_when_at_the_latest(state: int) -> None:
    info = tcp_info(last_data_sent=90_000, last_data_recv=61_000, last_ack_recv=60_500)
    assert one(diag(state, attributes=attribute(INFO, info)))["since_ts_ns"] == NOW - 60_500 * MS


@pytest.mark.parametrize(("state", "left_ms", "age_s"), [(6, 45_000, 15), (6, 60_000, 0), (5, 20_000, 40)])
def test_the_timer_tells_how_old_a_time_wait_is(state: int, left_ms: int, age_s: int) -> None:
    row = one(diag(state, timer=(3, left_ms, 0)))
    assert row["since_ts_ns"] == NOW - age_s * 10**9
    assert row["timer_ns"] == left_ms * MS


def test_a_timer_longer_than_it_can_be_tells_nothing() -> None:
    assert one(diag(6, timer=(3, 60_004, 0)))["since_ts_ns"] == NO_TIME_NS
    assert one(diag(6, timer=(77, 5, 0)))["timer"] == 0


def test_clocks_that_never_started_are_not_believed() -> None:
    """In SYN_SENT the kernel's clocks count from the start of the machine."""
    row = one(diag(2, attributes=attribute(INFO, tcp_info(last_ack_recv=2**31))))
    assert row["idle_ns"] == row["since_ts_ns"] == row["rtt_ns"] == NO_TIME_NS


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (("::ffff:10.0.0.2", 80), ("::ffff:10.0.0.1", 9), (4, "10.0.0.2", "10.0.0.1")),
        (("::ffff:10.0.0.2", 80), ("::", 0), (4, "10.0.0.2", "0.0.0.0")),
        (("::", 80), ("::", 0), (6, "::", "::")),
        (("2001:db8::1", 80), ("2001:db8::2", 1), (6, "2001:db8::1", "2001:db8::2")),
        (("0.0.0.0", 80), ("0.0.0.0", 0), (4, "0.0.0.0", "0.0.0.0")),
    ],
)
def test_ipv4_through_a_socket_for_both_families_is_ipv4(
    local: tuple[str, int], remote: tuple[str, int], expected: tuple[int, str, str]
) -> None:
    row = one(diag(1, local, remote))
    version = row["ip_version"]
    assert (version, ip_text(row["local_ip"], version), ip_text(row["remote_ip"], version)) == expected


def test_an_old_kernel_tells_less() -> None:
    short = tcp_info(total_retrans=4, last_ack_recv=5, bytes_received=6, bytes_sent=7)
    assert one(diag(8, attributes=attribute(INFO, short[:104])))["received_bytes"] == -1
    assert one(diag(8, attributes=attribute(INFO, short[:136])))["sent_bytes"] == -1
    row = one(diag(8, attributes=attribute(INFO, short[:100])))
    assert (row["retransmits"], row["since_ts_ns"]) == (-1, NO_TIME_NS)
    row = one(diag(8))
    assert (row["retransmits"], row["drops"], row["cgroup_id"]) == (-1, -1, 0)


class TestEnds:
    def test_done(self) -> None:
        assert read(message(struct.pack("=i", 0), DONE))[1] == messages.DONE

    @pytest.mark.parametrize("kind", [ERROR, DONE])
    def test_an_errno_is_a_failure(self, kind: int) -> None:
        reader = answer()
        assert (
            reader.read(message(struct.pack("=i", -2), kind), np.zeros(1, HOST_SOCKET_DTYPE), 0)[1] == messages.FAILED
        )
        assert reader.refusal == 2

    @pytest.mark.parametrize("body", [b"", struct.pack("=i", 0), struct.pack("=i", 5), struct.pack("=i", -(2**31))])
    def test_an_error_without_an_errno_is_a_protocol_error(self, body: bytes) -> None:
        reader = answer()
        assert reader.read(message(body, ERROR), np.zeros(1, HOST_SOCKET_DTYPE), 0)[1] == messages.FAILED
        assert reader.refusal == 71

    def test_what_answers_another_request_is_left_out(self) -> None:
        old = message(diag(1), sequence=SEQUENCE - 1) + message(b"", DONE, sequence=SEQUENCE - 1)
        rows, end = read(old + message(diag(8)) + message(b"", NOOP))
        assert end == messages.MORE
        assert rows["state"].tolist() == [TcpState.CLOSE_WAIT]

    def test_no_room_is_said_and_nothing_is_lost(self) -> None:
        raw = b"".join(message(diag(1, remote=("10.0.0.1", port))) for port in range(1, 8)) + message(b"", DONE)
        rows, reader, filled, at, ends = np.zeros(3, HOST_SOCKET_DTYPE), answer(), 0, 0, []
        ports: list[int] = []
        while not ends or ends[-1] != messages.DONE:
            filled, end = reader.read(raw[at:], rows, 0)
            ends.append(end)
            at += reader.consumed
            ports += rows["remote_port"][:filled].tolist()
        assert ports == list(range(1, 8))
        assert ends == [messages.FULL, messages.FULL, messages.DONE]

    def test_rows_of_another_dtype_are_refused(self) -> None:
        with pytest.raises(TypeError):
            answer().read(b"", np.zeros(1, SOCKET_DTYPE), 0)
        with pytest.raises(ValueError, match="2 of 1"):
            answer().read(b"", np.zeros(1, HOST_SOCKET_DTYPE), 2)


class TestHostileLengths:
    @pytest.mark.parametrize("length", [0, 1, 15, 16 + 72 + 1, 2**31, 2**32 - 1, 2**32 - 3])
    def test_a_message_that_cannot_be_so_long_ends_it(self, length: int) -> None:
        good = message(diag(1))
        rows, end = read(good + message(diag(8), length=length))
        assert end == messages.MALFORMED
        assert len(rows) == 1

    @pytest.mark.parametrize("size", range(16, 88))
    def test_a_message_too_short_for_a_socket_is_counted(self, size: int) -> None:
        rows = np.zeros(4, HOST_SOCKET_DTYPE)
        reader = answer()
        filled, end = reader.read(message(diag(1)[: size - 16]) + message(diag(8)), rows, 0)
        assert (filled, end, reader.skipped) == (1, messages.MORE, 1)

    @pytest.mark.parametrize("length", [0, 1, 3, 5000, 65_535])
    def test_an_attribute_of_no_possible_length_ends_the_attributes(self, length: int) -> None:
        bad = attribute(SKMEMINFO, struct.pack("=9I", *range(9)), length=length)
        row = one(diag(1, attributes=bad + attribute(CGROUP_ID, struct.pack("=Q", 5))))
        assert (row["drops"], row["cgroup_id"]) == (-1, 0)

    @pytest.mark.parametrize("kind", [INFO, SKMEMINFO, CGROUP_ID])
    def test_an_attribute_shorter_than_its_kind_is_not_read(self, kind: int) -> None:
        for size in range(8):
            row = one(diag(8, attributes=attribute(kind, b"\xff" * size)))
            assert (row["retransmits"], row["drops"], row["cgroup_id"]) == (-1, -1, 0)

    def test_no_mutation_and_no_cut_does_any_harm(self) -> None:
        chance = random.Random(11)
        info = (
            attribute(INFO, tcp_info(last_ack_recv=1))
            + attribute(SKMEMINFO, bytes(36))
            + attribute(CGROUP_ID, bytes(8))
        )
        good = b"".join(message(diag(state, attributes=info)) for state in range(1, 12))
        tails = (message(b"", DONE), message(struct.pack("=i", -5), ERROR), b"")
        ends = set()
        for _ in range(20_000):
            whole = good + chance.choice(tails)
            raw = bytearray(whole[: chance.choice((len(whole), chance.randrange(len(whole))))])
            for _ in range(chance.randrange(4)):
                if raw:
                    raw[chance.randrange(len(raw))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            rows, end = read(bytes(raw), room=chance.randrange(13))
            ends.add(end)
            assert len(rows) <= 12
            assert (rows["state"] <= TcpState.TIME_WAIT).all()
        assert ends == {messages.MORE, messages.DONE, messages.FAILED, messages.FULL, messages.MALFORMED}

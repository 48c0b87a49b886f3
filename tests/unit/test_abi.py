"""The two dtypes, field by field: the contract between the rooms, and what users index by name.

The tables are written by hand. A change of a struct that is not also made here is a change by accident.
"""

from __future__ import annotations

import numpy as np
import pytest

from conntrack.core import abi

SEGMENT = """
i8   ts_ns            0  time of capture
u8   frame            8  number of the frame over all inputs
16u1 src_ip          16  address of the sender, network order
16u1 dst_ip          32  address of the receiver
u4   seq             48  sequence number
u4   ack             52  acknowledgement number
u4   payload_bytes   56  length of the payload, by the IP header
u4   wire_bytes      60  length of the frame
u4   tsval           64  RFC 7323 timestamp
u4   tsecr           68  RFC 7323 timestamp echoed
u2   src_port        72  port of the sender
u2   dst_port        74  port of the receiver
u2   window          76  window, unscaled
u2   flags           78  the flags of the header
u2   ip_id           80  IPv4 identification
u2   mss             82  maximum segment size offered
u1   ip_version      84  4 or 6
u1   ttl             85  time to live, hop limit
u1   window_scale    86  shift offered
u1   options         87  which options were there
u4   tag             88  network it was on
u2   path            92  outer path it came by
2u1  pad0            94  nothing
"""

FLOW = """
u8   flow_id                       0  frame number of the first segment
i8   first_ts_ns                   8  first segment
i8   last_ts_ns                   16  last segment
i8   syn_ts_ns                    24  first SYN
i8   synack_ts_ns                 32  first SYN+ACK
i8   established_ts_ns            40  first ACK of the SYN+ACK
i8   client_fin_ts_ns             48  client's FIN sent
i8   server_fin_ts_ns             56  server's FIN sent
i8   client_fin_received_ts_ns    64  client's FIN taken by the server
i8   server_fin_received_ts_ns    72  server's FIN taken by the client
i8   client_fin_acked_ts_ns       80  client's FIN acknowledged
i8   server_fin_acked_ts_ns       88  server's FIN acknowledged
i8   reset_ts_ns                  96  first RST that closed anything
i8   closed_ts_ns                104  both ends closed
i8   client_since_ts_ns          112  client entered its state
i8   server_since_ts_ns          120  server entered its state
i8   half_close_payload_ts_ns    128  last payload after the peer's FIN
i8   reused_age_ns               136  age of the TIME_WAIT that was reused
u8   half_close_payload_bytes    144  payload after the peer's FIN
u8   client_packets              152  segments
u8   server_packets              160
u8   client_payload_bytes        168  payload with retransmissions
u8   server_payload_bytes        176
u8   client_wire_bytes           184  whole frames
u8   server_wire_bytes           192
u8   client_unique_bytes         200  payload without retransmissions
u8   server_unique_bytes         208
u8   client_gap_bytes            216  acknowledged but not captured
u8   server_gap_bytes            224
u4   client_retransmits          232  segments with nothing new
u4   server_retransmits          236
u4   client_out_of_order         240  segments beyond a hole, or filling one
u4   server_out_of_order         244
u4   client_zero_windows         248  announcements of no window
u4   server_zero_windows         252
u4   client_syns                 256  SYNs
u4   server_syns                 260
u4   client_fins                 264  FINs
u4   server_fins                 268
u4   client_rsts                 272  RSTs
u4   server_rsts                 276
u4   client_isn                  280  initial sequence number
u4   server_isn                  284
u4   client_duplicates             288  frames that are there twice
u4   server_duplicates             292
u4   tag                           296  network it was on
u4   generation                    300  which connection on this 4-tuple
u4   flags                         304  FlowFlag
16u1 client_ip                     308  network order
16u1 server_ip                     324
32u1 history                       340  letters of what happened
u2   client_port                   372
u2   server_port                   374
u2   path                          376  outer path it came by
u2   client_syn_window             378  of the client's SYN, as the next four
u2   client_mss                    380
u1   client_ttl                    382
u1   client_window_scale           383
u1   client_options                384
u1   ip_version                    385  4 or 6
u1   client_state                  386  TcpState
u1   server_state                  387
u1   client_state_evidence         388  Evidence
u1   server_state_evidence         389
u1   direction_evidence            390  DirectionEvidence
u1   closed_by                     391  ClosedBy
u1   end_reason                    392  EndReason
u1   completeness                  393  Wireshark's bits
6u1  pad1                          394  nothing
"""

SOCKET = """
u8   flow_id                       0  the connection
i8   at_ts_ns                      8  the instant
i8   since_ts_ns                  16  entered its state
16u1 local_ip                     24  network order
16u1 remote_ip                    40
u2   local_port                   56
u2   remote_port                  58
u1   ip_version                   60  4 or 6
u1   state                        61  TcpState
u1   evidence                     62  Evidence
u1   pad0                         63  nothing
"""

Spec = list[tuple[str, np.dtype, tuple[int, ...], int]]


def spec(table: str) -> Spec:
    """Parse a table into (name, type, shape, offset)."""
    fields = []
    for line in table.strip().splitlines():
        kind, name, offset = line.split()[:3]
        count = kind[:-2]
        fields.append((name, np.dtype(kind[-2:]), (int(count),) if count else (), int(offset)))
    return fields


def of(dtype: np.dtype) -> Spec:
    """The same of a dtype."""
    fields = []
    for name in dtype.names or ():
        field, offset = dtype.fields[name][:2]
        fields.append((name, field.base, field.shape, offset))
    return fields


@pytest.mark.parametrize(
    ("dtype", "table", "size"),
    [(abi.SEGMENT_DTYPE, SEGMENT, 96), (abi.FLOW_DTYPE, FLOW, 400), (abi.SOCKET_DTYPE, SOCKET, 64)],
    ids=["SEGMENT_DTYPE", "FLOW_DTYPE", "SOCKET_DTYPE"],
)
class TestDtype:
    def test_equals_the_table(self, dtype: np.dtype, table: str, size: int) -> None:
        assert of(dtype) == spec(table)

    def test_has_its_size_and_no_hole(self, dtype: np.dtype, table: str, size: int) -> None:
        assert dtype.itemsize == size
        end = 0
        for name, base, shape, offset in of(dtype):
            assert offset == end, f"hole before {name}"
            end += base.itemsize * int(np.prod(shape, dtype=int))
        assert end == size

    def test_keeps_rows_aligned_in_an_array(self, dtype: np.dtype, table: str, size: int) -> None:
        assert size % 8 == 0


def test_option_bits_are_distinct() -> None:
    bits = [abi.HAS_TIMESTAMP, abi.HAS_SACK_PERMITTED, abi.HAS_SACK, abi.HAS_FAST_OPEN, abi.OPTIONS_CUT]
    assert bits == [1, 2, 4, 8, 16]

# The structs that cross between rooms, and nothing else. Fields are ordered by size and padding is named, so that the
# C layout and the numpy dtype derived from it (abi.pyx) have no holes. tests/unit/test_abi.py holds the same tables.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef struct SegmentRecord:  # one decoded TCP segment, 96 bytes
    int64_t ts_ns           # time of capture, nanoseconds since 1970-01-01T00:00:00Z
    uint64_t frame          # number of the frame over all inputs, from 1
    uint8_t src_ip[16]      # network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)
    uint8_t dst_ip[16]
    uint32_t seq            # host order, as all that follow
    uint32_t ack            # 0 without the ACK flag
    uint32_t payload_bytes  # from the IP length, never from what was captured
    uint32_t wire_bytes     # length of the frame on the wire
    uint32_t tsval          # RFC 7323 timestamps, valid with SEGMENT_HAS_TIMESTAMP
    uint32_t tsecr
    uint16_t src_port
    uint16_t dst_port
    uint16_t window         # as in the header, not scaled
    uint16_t flags          # FIN 1 SYN 2 RST 4 PSH 8 ACK 16 URG 32 ECE 64 CWR 128 AE 256
    uint16_t ip_id          # IPv4 identification; 0 for IPv6
    uint16_t mss            # RFC 9293 option 2 of a SYN; 0 without
    uint8_t ip_version      # 4 or 6
    uint8_t ttl             # time to live, or hop limit
    uint8_t window_scale    # RFC 7323 option 3 of a SYN; 255 without
    uint8_t options         # SEGMENT_HAS_*
    uint32_t tag            # of the network it was on: VLAN ids, tunnel id (capture.linklayer has how), 0 for none
    uint16_t path           # number of the outer path (layers and outer addresses) that it came by, 0 for plain frames
    uint8_t pad0[2]


cdef enum:                  # SegmentRecord.options
    SEGMENT_HAS_TIMESTAMP = 1
    SEGMENT_HAS_SACK_PERMITTED = 2
    SEGMENT_HAS_SACK = 4
    SEGMENT_HAS_FAST_OPEN = 8
    SEGMENT_OPTIONS_CUT = 16    # the snap length cut the options; those before the cut were read


cdef struct FlowRecord:     # one connection, complete in itself; NO_TIME_NS where a time is not known
    uint64_t flow_id        # frame number of its first segment: unique, and the same for any batch size or thread count
    int64_t first_ts_ns
    int64_t last_ts_ns
    int64_t syn_ts_ns       # first SYN seen
    int64_t synack_ts_ns    # first SYN+ACK seen
    int64_t established_ts_ns           # first ACK of the SYN+ACK
    int64_t client_fin_ts_ns            # client's FIN first sent
    int64_t server_fin_ts_ns
    int64_t client_fin_received_ts_ns   # when the server is known to have taken the client's FIN
    int64_t server_fin_received_ts_ns   # when the client is known to have taken the server's FIN
    int64_t client_fin_acked_ts_ns      # when the client's FIN was first acknowledged
    int64_t server_fin_acked_ts_ns
    int64_t reset_ts_ns                 # first RST that closed anything
    int64_t closed_ts_ns                # when both ends were CLOSED
    int64_t client_since_ts_ns          # when the client entered its state
    int64_t server_since_ts_ns
    int64_t half_close_payload_ts_ns    # last payload from the end whose peer has sent its FIN
    int64_t reused_age_ns               # how long the 4-tuple had been in TIME_WAIT when this connection took it
    uint64_t half_close_payload_bytes   # payload sent by the end whose peer has sent its FIN, since then
    uint64_t client_packets
    uint64_t server_packets
    uint64_t client_payload_bytes       # with retransmissions
    uint64_t server_payload_bytes
    uint64_t client_wire_bytes          # whole frames
    uint64_t server_wire_bytes
    uint64_t client_unique_bytes        # without retransmissions
    uint64_t server_unique_bytes
    uint64_t client_gap_bytes           # acknowledged by the peer, but not in the capture
    uint64_t server_gap_bytes
    uint32_t client_retransmits         # segments that carry nothing new
    uint32_t server_retransmits
    uint32_t client_out_of_order        # segments beyond a hole, or that fill one
    uint32_t server_out_of_order
    uint32_t client_zero_windows        # segments that announce a window of 0 (not SYN, not RST)
    uint32_t server_zero_windows
    uint32_t client_syns                # SYNs, retransmissions included (the server's are SYN+ACKs)
    uint32_t server_syns
    uint32_t client_fins
    uint32_t server_fins
    uint32_t client_rsts
    uint32_t server_rsts
    uint32_t client_isn                 # initial sequence number; from the first segment where no SYN was seen
    uint32_t server_isn
    uint32_t client_duplicates          # frames that the capture has twice; counted nowhere else
    uint32_t server_duplicates
    uint32_t tag                        # SegmentRecord.tag of the first segment
    uint32_t generation                 # 1 for the first connection on the 4-tuple, 2 for the next, ...
    uint32_t flags                      # states.FlowFlag
    uint8_t client_ip[16]               # network order; IPv4 as ::ffff:a.b.c.d
    uint8_t server_ip[16]
    uint8_t history[32]                 # Zeek's letters, NUL at the end
    uint16_t client_port
    uint16_t server_port
    uint16_t path                       # SegmentRecord.path of the first segment
    uint16_t client_syn_window          # of the client's first SYN, as the next four; 0 where none was seen
    uint16_t client_mss                 # as offered; 0 without
    uint8_t client_ttl
    uint8_t client_window_scale         # as offered; 255 without
    uint8_t client_options              # SEGMENT_HAS_*
    uint8_t ip_version
    uint8_t client_state                # states.TcpState
    uint8_t server_state
    uint8_t client_state_evidence       # states.Evidence
    uint8_t server_state_evidence
    uint8_t direction_evidence          # states.DirectionEvidence
    uint8_t closed_by                   # states.ClosedBy
    uint8_t end_reason                  # states.EndReason
    uint8_t completeness                # Wireshark's tcp.completeness: SYN 1 SYN+ACK 2 ACK 4 DATA 8 FIN 16 RST 32
    uint8_t pad1[6]


cdef struct SocketRecord:   # one end of a connection at an instant, 64 bytes
    uint64_t flow_id        # the connection's
    int64_t at_ts_ns        # the instant
    int64_t since_ts_ns     # when this end entered its state
    uint8_t local_ip[16]    # of this end; network order, IPv4 as ::ffff:a.b.c.d
    uint8_t remote_ip[16]
    uint16_t local_port
    uint16_t remote_port
    uint8_t ip_version
    uint8_t state           # states.TcpState
    uint8_t evidence        # states.Evidence
    uint8_t pad0

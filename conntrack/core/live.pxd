# How a connection is kept while it is alive. Private to the compiled room: what leaves it is a FlowRecord (abi.pxd).
#
# A connection costs as much as it needs. LiveFlow, two cache lines, says everything about one that is open and clean:
# what the step reads first and compares stands in the first line, what it only counts in the second. Two facts make it
# that small: while nothing was retransmitted, lost or reordered, the contiguous edge of each side is its snd_nxt; and
# while nobody closes, the time at which each state was entered is the time of a step of the handshake. The first FIN or
# RST adds a Closing; the first irregular segment adds a Trouble; IPv6 adds a V6Pair. Record 0 of each pool is not used,
# so that 0 can mean "none". What is read again only when the connection is written out is kept apart, in a FirstSeen
# with the record's own number, and never comes near the loop.
#
# Arrays of two are [client, server].
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .abi cimport FlowRecord

cdef enum:
    RANGES = 4                      # out-of-order ranges kept a side; more are counted, not kept
    UNKNOWN_SCALE = 15              # nibble of LiveFlow.scales: no window scale option seen
    # Of LiveFlow.*_after, set by delay_of (life.pxd):
    DELAY_US = 0x80000000           # it is in whole microseconds, as are most captures; else in nanoseconds
    NO_DELAY = 0xFFFFFFFF           # the step was not seen, or there is no room for when (see Trouble)

cdef enum:
    MOST_TURNS = 8                  # of Trouble.synack_turns; hosts do not wait longer than 2^8 times the first

cdef enum:                          # LiveFlow.marks; bits 4-7, two a side, are states.Evidence (life.pxd)
    MARK_CLIENT_IS_HIGH = 1         # the client has the higher (address, port)
    MARK_V6 = 2                     # address[0] is a V6Pair, address[1] a hash of the two addresses
    MARK_DIRECTION = 2              # shift of two bits: states.DirectionEvidence

cdef enum:                          # LiveFlow.flags; bits 0-15 are states.FlowFlag
    FLAG_MIDSTREAM = 1 << 0         # in a FlowRecord; in a LiveFlow these two bits are KNOWN
    FLAG_ONE_SIDED = 1 << 1
    KNOWN = 1 << 0                  # two bits: the client, the server has set its numbers by a segment of its own
    FLAG_SIMULTANEOUS_OPEN = 1 << 2
    FLAG_FAST_OPEN = 1 << 3
    FLAG_REUSED_TIME_WAIT = 1 << 4  # in a FlowRecord; in a LiveFlow these two bits are ACKED
    FLAG_REUSED_BY_RFC6191 = 1 << 5
    ACKED = 1 << 4                  # two bits: the client, the server has acknowledged something
    FLAG_PENDING_SYN = 1 << 6
    FLAG_ACCEPT_QUEUE = 1 << 7
    FLAG_RST_CHALLENGED = 1 << 8
    FLAG_RST_IGNORED = 1 << 9
    FLAG_OUT_OF_WINDOW = 1 << 10
    FLAG_PAWS_REJECTED = 1 << 11
    FLAG_ODD_FLAGS = 1 << 12
    FLAG_CAPTURE_LOSS = 1 << 13
    FLAG_HISTORY_CUT = 1 << 14
    SAW_BARE_ACK = 1 << 15          # a FIN or a RST with ACK and without payload
    FLAGS_EXPORTED = 0x7FCC
    SAW_SYN = 1 << 16               # a SYN without ACK, from the client
    SAW_SYN_ACK = 1 << 17           # a SYN+ACK, from the server
    FIN_TAKEN = 1 << 19             # two bits: the client's, the server's FIN counts as received by the other
    SAW_TIMESTAMP = 1 << 21         # two bits: ts_recent of the client, of the server is known
    HEAD_COUNT = 23                 # shift of three bits: how many of the letters a, d, A, D the history has so far
    HEAD_LETTERS = 26               # shift of three letters of two bits, in order: 1 for payload, 2 for the server's

cdef struct LiveFlow:               # 128 bytes
    uint32_t address[2]             # IPv4, host order; or see MARK_V6
    uint16_t port[2]
    uint32_t closing                # index of a Closing, 0 without
    uint32_t trouble                # index of a Trouble, 0 without
    uint32_t snd_nxt[2]             # one past the highest sequence number sent; never beyond the FIN
    uint32_t ack[2]                 # highest acknowledgment sent
    uint32_t ts_recent[2]           # TSval of the newest segment in order from this side (RFC 7323 section 4.3)
    uint32_t iss[2]                 # initial sequence number, or that of the first segment seen
    uint16_t window[2]              # last window announced, not scaled
    uint8_t client_state            # states.TcpState
    uint8_t server_state
    uint8_t scales                  # window scale of the client (low nibble) and the server (high nibble)
    uint8_t marks
    uint32_t flags
    # second line
    int64_t first_ts_ns
    int64_t last_ts_ns              # highest time of a segment of this connection
    uint64_t origin                 # flow_id in the low 48 bits, generation in the high 16
    uint64_t sent[2]                # payload bytes in the low 48 bits; above them the last IP id (copies.pxd)
    uint32_t packets[2]
    uint32_t header_bytes[2]        # wire bytes that are not payload, modulo 2^32 (see Trouble.header_wraps)
    uint32_t synack_after           # from first_ts_ns; see DELAY_US
    uint32_t established_after

cdef struct Closing:                # 64 bytes
    int64_t fin_ts_ns[2]            # first FIN of each side
    int64_t fin_acked_ts_ns[2]
    int64_t since_ts_ns[2]          # when each side entered its state
    int64_t timer_ts_ns             # last segment received by the end that lingers; where both do, by the client
    # Twelve letters of five bits; who sent the RST that ended it (bits 60-61), and whose since_ts_ns is the time of
    # that (bits 62-63): 1 the client, 2 the server.
    uint64_t history

cdef struct Trouble:                # 272 bytes
    uint32_t edge[2]                # end of the contiguous part of what each side sent
    uint32_t range_start[8]         # out of order, beyond the edge: [side * RANGES + i]
    uint32_t range_end[8]
    uint8_t ranges[2]               # how many
    uint8_t pending_role            # who sent a SYN with another initial sequence number, plus 1; 0 nobody
    uint8_t marks                   # FINS_CROSSED, ...
    uint32_t pending_iss
    uint32_t stray_seq              # see OTHER_ISS, STRAY
    uint32_t retransmits[2]
    uint32_t out_of_order[2]
    uint32_t zero_windows[2]
    uint32_t more_syns[2]           # beyond the first
    uint32_t more_fins[2]
    uint32_t rsts[2]                # beyond the one that ended it
    uint16_t header_wraps[2]
    uint8_t synack_turns            # how often a timer sent the SYN+ACK again
    uint8_t synack_acked            # the client has acknowledged the last SYN+ACK again
    uint16_t recent_ids[2]          # bit n: the id that is n less than the last was there (copies.pxd)
    uint16_t reserved
    uint32_t duplicates[2]          # frames that the capture has twice
    uint64_t retransmitted_bytes[2]
    uint64_t gap_bytes[2]
    int64_t pending_ts_ns
    int64_t synack_ts_ns            # where LiveFlow.synack_after has no room
    int64_t established_ts_ns
    int64_t fin_taken_ts_ns[2]      # where it is not the time of the FIN itself
    int64_t half_close_payload_ts_ns
    uint64_t half_close_payload_bytes
    int64_t reused_age_ns
    int64_t second_timer_ts_ns      # opening: last SYN+ACK that repeats the first; both ends linger: the server's timer
    int64_t synack_asked_ts_ns      # last SYN that came again since then, or NO_TIME
    int64_t stray_fin_ts_ns         # with STRAY: when that was first sent, if it is a FIN, or NO_TIME

cdef enum:                          # Trouble.marks
    FINS_CROSSED = 1                # neither side had the other's FIN when it sent its own
    REUSE_BY_RFC6191 = 2            # with reused_age_ns: RFC 6191 allowed it
    OTHER_ISS = 4                   # stray_seq is that of an earlier SYN+ACK that differs: the ACK chooses
    STRAY = 8                       # two bits: stray_seq is the end of a segment of that side beyond any window
    ASKED_AGAIN = 32                # the client has sent more than one SYN
    ONE_ID = 64                     # two bits: that side gives all its packets the same id (copies.pxd)

cdef struct FirstSeen:              # 16 bytes: of the connection with the same record number, from its first segments
    uint32_t tag                    # SegmentRecord.tag of the first
    uint16_t path                   # SegmentRecord.path of the first
    uint16_t syn_window             # as in the client's first SYN, as the next five; 0 before it came
    uint16_t mss
    uint16_t syn_id                 # its IPv4 identification: copies have the same (copies.pxd)
    uint8_t ttl
    uint8_t window_scale            # 255 without
    uint8_t options
    uint8_t reserved

cdef struct V6Pair:                 # 32 bytes
    uint8_t address[32]             # client, server

cdef struct Pool:                   # which records of a pool are in use
    uint32_t used                   # records ever used, record 0 included
    uint32_t free                   # records on the free list
    uint32_t capacity
    uint32_t pad0

cdef struct Tables:                 # everything a kernel touches, as plain pointers; the arrays belong to the Tracker
    LiveFlow* flows
    FirstSeen* firsts               # [record of flows]
    Closing* closings
    Trouble* troubles
    V6Pair* pairs
    uint32_t* free_flows
    uint32_t* free_closings
    uint32_t* free_troubles
    uint32_t* free_pairs
    Pool flow_pool
    Pool closing_pool
    Pool trouble_pool
    Pool pair_pool
    uint64_t* slots                 # the index: fingerprint in the high half, record number in the low
    uint32_t slot_bits
    uint32_t slots_used
    const uint8_t* table            # [role, event, state] -> state, 0xFE ignore, 0xFF invalid
    const uint8_t* start            # [kind, role] -> state
    const uint8_t* traits           # [state]
    const int64_t* timeouts         # [state], nanoseconds, negative for none
    int64_t synack_rto_ns           # after how long a SYN+ACK is first repeated, negative where that is not known
    int64_t least_timeout_ns        # the shortest of them all
    uint64_t* invalid               # [role, event, state] -> how often a cell without a rule was met
    int64_t asking_ns               # for so long no timer of a client that asks runs out (lanes.pxd),
    int64_t answering_ns            # of a server that answers,
    int64_t closing_ns              # of an end that closes
    int64_t two_msl_ns
    int64_t now_ns                  # the time it is (clock.pxd), as the next two
    int64_t before_ns
    int64_t last_ts_ns
    uint32_t tag_mask               # all bits set where the tag is part of a connection's key, else none
    uint8_t lanes                   # whether lanes.pxd takes what it can; the next four are for it
    uint8_t listening               # states: of a server before the SYN,
    uint8_t asking                  # of a client after its SYN,
    uint8_t answering               # of a server after its SYN+ACK,
    uint8_t open                    # of both after the client's ACK
    uint8_t pad0[3]
    uint64_t key[4]                 # secret of the hash
    FlowRecord* retired             # connections that ended during this batch
    uint32_t retired_count
    uint32_t retired_capacity

cdef class LiveTable:
    cdef Tables c
    cdef list _kept                 # the arrays behind the pointers

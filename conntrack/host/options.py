"""Every threshold of `ctrack host`, with its default and where that comes from. Data only; decides nothing.

Where a capture is judged by the same number, it is that of detect/options.py, and its source is told there. What the
kernel is set to (backlogs, port range, limits of its tables) is read from the kernel and is no option.
"""

from __future__ import annotations

from dataclasses import dataclass

from conntrack.detect.options import DetectOptions

__all__ = ["HostOptions"]

_CAPTURE = DetectOptions()


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What the host's sockets and counters are compared with. Units are in the names; ratios are from 0 to 1.

    Attributes:
        close_wait_age_s, close_wait_warning_count, close_wait_critical_count, close_wait_warning_ratio,
            close_wait_ratio_min_count, close_wait_starved_ratio: as in DetectOptions.
        accept_queue_critical_count: as in DetectOptions; connections that the full queue dropped between two looks.
        syn_half_open_min: as in DetectOptions, of half-open connections whose SYN+ACK was repeated.
        syn_completion_ratio_max, syn_received_timeout_s: as in DetectOptions. What completes in the time for which an
            abandoned handshake is kept is taken from the rate at which the host accepts connections.
        syn_backlog_warning_ratio, syn_backlog_min: share of the backlog that they fill, and how many they must be for
            it to count: as in DetectOptions, and 8 (ours: a backlog of 5 is full of what one client's trouble leaves).
        time_wait_warning_ratio, time_wait_critical_ratio: as in DetectOptions, of ip_local_port_range and likewise of
            tcp_max_tw_buckets.
        time_wait_server_min: as in DetectOptions.
        fin_wait_2_age_s, stuck_ends_min, orphans_warning_ratio: as in DetectOptions.
        orphan_age_s: wait of an orphaned FIN_WAIT_2 that counts: 10 s (ours: a peer that is there closes in a round
            trip or two, and tcp_fin_timeout ends the wait after 60 s).
        last_ack_timeouts_min: repetitions of the last FIN without an ACK: 2 (last_ack_fins_min of DetectOptions, less
            the first one).
        retransmit_segments_min: segments sent between two looks from which their share of retransmissions says
            anything: 1000 (ours: 10 of them at the lower ratio).
        retransmit_ratio_min, retransmit_warning_ratio: share of retransmissions that is worth telling, and that is a
            warning: 0.01 and 0.05 (Mathis et al. 1997, 1.22 / sqrt(p): Reno carries 12 segments a round trip at 1 % of
            loss and 5 at 5 %).
        reset_storm_count, reset_storm_window_s, reset_storm_ratio_min: as in DetectOptions; the ratio is to the
            connections opened meanwhile.
        conntrack_warning_ratio, conntrack_critical_ratio: share of nf_conntrack_max in use: 0.8 (ours) and 0.95
            (nf_conntrack_max95 of nf_conntrack_core.c, from which on the kernel drops connections early).
        subjects_max: as in DetectOptions.
    """

    close_wait_age_s: float = _CAPTURE.close_wait_age_s
    close_wait_warning_count: int = _CAPTURE.close_wait_warning_count
    close_wait_critical_count: int = _CAPTURE.close_wait_critical_count
    close_wait_warning_ratio: float = _CAPTURE.close_wait_warning_ratio
    close_wait_ratio_min_count: int = _CAPTURE.close_wait_ratio_min_count
    close_wait_starved_ratio: float = _CAPTURE.close_wait_starved_ratio
    accept_queue_critical_count: int = _CAPTURE.accept_queue_critical_count
    syn_half_open_min: int = _CAPTURE.syn_half_open_min
    syn_completion_ratio_max: float = _CAPTURE.syn_completion_ratio_max
    syn_received_timeout_s: float = _CAPTURE.syn_received_timeout_s
    syn_backlog_warning_ratio: float = _CAPTURE.syn_backlog_warning_ratio
    syn_backlog_min: int = 8
    time_wait_warning_ratio: float = _CAPTURE.time_wait_warning_ratio
    time_wait_critical_ratio: float = _CAPTURE.time_wait_critical_ratio
    time_wait_server_min: int = _CAPTURE.time_wait_server_min
    fin_wait_2_age_s: float = _CAPTURE.fin_wait_2_age_s
    stuck_ends_min: int = _CAPTURE.stuck_ends_min
    orphans_warning_ratio: float = _CAPTURE.orphans_warning_ratio
    orphan_age_s: float = 10.0
    last_ack_timeouts_min: int = _CAPTURE.last_ack_fins_min - 1
    retransmit_segments_min: int = 1000
    retransmit_ratio_min: float = 0.01
    retransmit_warning_ratio: float = 0.05
    reset_storm_count: int = _CAPTURE.reset_storm_count
    reset_storm_window_s: float = _CAPTURE.reset_storm_window_s
    reset_storm_ratio_min: float = _CAPTURE.reset_storm_ratio_min
    conntrack_warning_ratio: float = 0.8
    conntrack_critical_ratio: float = 0.95
    subjects_max: int = _CAPTURE.subjects_max

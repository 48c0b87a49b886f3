"""Every threshold of the detectors, with its default and where that comes from. Data only; decides nothing.

"Ours" after a number means that nobody's measurement or manual was found to lean on: it is a judgement, and the reason
is given. Host timers are those of Linux, as in timeouts.py; whoever runs another profile passes its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DetectOptions"]


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """What the detectors compare with. Units are in the names; ratios are from 0 to 1.

    Attributes:
        syn_received_timeout_s: how long a server keeps a half-open connection: 63 s, Linux tcp_synack_retries = 5
            (SYN+ACK repeated after 1, 2, 4, 8, 16 s, given up 32 s later; ip-sysctl).
        time_wait_s: 60 s, Linux TCP_TIMEWAIT_LEN (include/net/tcp.h), not tcp_fin_timeout.
        handshake_wait_s: a half-open connection younger than this may be an honest handshake in flight and raises no
            alarm: 1 s, the first retransmission timeout (RFC 6298 section 2).
        syn_retry_wait_s: a SYN or SYN+ACK this old has been repeated by a real TCP, if unanswered: 1.5 s, the same 1 s
            and room for delay (ours).
        syn_backlog: half-open connections that the service can hold. 4096 = min(net.core.somaxconn since Linux 5.4,
            net.ipv4.tcp_max_syn_backlog of a host with 16 GiB or so); a service may have asked for less in listen().
        syn_backlog_warning_ratio: share of `syn_backlog` from which abandoned handshakes are a warning whatever else
            the service does: 0.5 (ours; the RFC 4987 section 3 measures start from a queue that is filling).
        syn_half_open_min: abandoned handshakes alive at once that are worth a look when most attempts are abandoned:
            64, half of the smallest usual backlog of 128 (somaxconn before Linux 5.4), which 2 SYN/s fill; Cisco CBAC
            alarms at 50 for a host and 500 in all.
        syn_completion_ratio_max: a service where a larger share of the attempts completes is busy, not flooded: 0.97
            (ours; a busy service abandons a hundredth or so, which is a third of it, loss abandons none, because both
            ends repeat; and 2 forged SYN/s, which fill a backlog of 128, hide behind 38 honest ones at 0.95).
        syn_window_s, syn_window_syns, syn_sources_min: SYNs never answered, from so many sources within so long: 200 in
            5 s from 50 (the rule of NetScope, which tells a flood from a scan so).
        syn_tries_per_source_max: SYNs never answered for each source, up to which the sources are taken for forged: 3
            (ours; clients with an impatient timeout come back again and again, forged addresses hardly).
        syn_source_rate_per_s: SYNs a second that make a flood even from one source: 1024 (Juniper SRX screen, source
            threshold of "syn-flood").
        syn_rate_critical_per_s: 2048 (the same screen, destination threshold).
        syn_once_ratio: share of the unanswered SYNs that were never repeated, from which on nobody honest is behind
            them: 0.5 (ours; every TCP repeats its SYN, Linux after 1 s, and a capture that loses a tenth still shows
            most of it).
        syn_cookie_ratio: share of abandoned SYN+ACKs that the server sent only once, from which on it answers with
            cookies: 0.9 (ours; a server without cookies repeats them 5 times).
        unanswered_min: clients without any answer that make a finding where none of them repeated its SYN: 3 (ours).
        unanswered_ratio_min, refused_ratio_min: share of a service's attempts, from the first to the last one without
            an answer or refused, from which on the service is at fault and not the client or the network: 0.5 (ours).
        host_services_max: services of one host that are told one by one when they do not answer or refuse: 3 (ours).
        lone_subjects_max: services that are found for a single connection each, past which they are a scan and left
            out; and hosts of clients that only wait, past which only what they wait for is told: 10 (ours; half of
            scan_targets_min).
        accept_queue_min, accept_queue_ratio_min: connections whose SYN+ACK was repeated after the client's ACK, and
            their share of the attempts meanwhile: 3 and 0.3 (ours: lost ACKs alone make the share as large as the loss,
            and a network that loses 30 % has another fault).
        accept_queue_critical_count: 100 (ours: a backlog of 128, somaxconn before Linux 5.4, nearly once more).
        scan_targets_min, scan_window_s: ports of one host, or hosts on one port, tried in vain within so long: 25
            (NetScope alarms at 25 ports) in 600 s (the longest window of Snort's port_scan).
        sources_exact: distinct sources or targets counted exactly for each service or host: 65,536, half a megabyte of
            them (ours); beyond, estimated to about 2 % (distinct.py).
        close_wait_age_s: age in CLOSE_WAIT that counts as a leak: 60 s (ours: the time for which the peer's kernel
            keeps its orphaned FIN_WAIT_2, tcp_fin_timeout; after it nobody is waiting for the answer any more).
        close_wait_warning_count: 10 leaking ends of one service or host (ours: fewer is as often one slow task).
        close_wait_critical_count: 100 (the alarm of published runbooks for CLOSE_WAIT).
        close_wait_warning_ratio, close_wait_ratio_min_count: share of a service's connections that leak, from which on
            even few are a warning, and how few: 0.05 and 3 (ours: one socket of one connection is no trend).
        close_wait_starved_ratio: share of the leaking ends that never sent a byte, from which on the accept queue is
            suspected: 0.5 (ours).
        close_wait_loss_factor: share of a service's connections whose FIN and the ACK of it the capture may have lost,
            for each share of the payload that it lost: 0.25 (ours, measured on captures with 1 to 20 % of the frames
            dropped, at random or 50 in a row: healthy connections that look like a leak are 0.2 at most, those of a
            service that leaks 30 % are 0.6 and more).
        close_wait_headless_factor: ends of connections that the capture may have lost for each beginning that it lost:
            1.5 (ours, measured likewise with 20 to 200 frames in a row: 0.1 to 1.2; where there are but a few holes, of
            seconds each, they are too few to judge by).
        stuck_ends_min: ends in FIN_WAIT_2 or LAST_ACK for long that are worth telling: 10 (as
            close_wait_warning_count).
        orphans_max, orphans_warning_ratio: 65536, net.ipv4.tcp_max_orphans of a host with 16 GiB or so (Linux takes it
            from the memory), and the share of it that is a warning: 0.5 (ours).
        fin_wait_2_age_s: wait for the peer's FIN that counts as stuck: 60 s, Linux tcp_fin_timeout.
        last_ack_fins_min: FINs of an end that closes second, none of them acknowledged, past which its peer is taken to
            be gone: 3 (ours; with two lost on the way, the third comes 0.6 s after the first or later).
        reset_storm_count, reset_storm_window_s: open connections reset within so long: 100 in 10 s (ours).
        reset_storm_ratio_min: and the share of the service's connections that they are: 0.5 (ours).
        zero_windows_min: segments with a window of 0 from which a connection counts as stalled: 3 (ours: the persist
            timer probes after 0.2 s, 0.4 s, ..., each probe is answered with one).
        zero_window_warning_count, zero_window_warning_ratio: connections of a service that are stalled, and their
            share: 10 and 0.5 (ours).
        one_sided_packets_min, one_sided_ratio_min: segments of one direction of a connection that count, and the share
            of connections: 3 and 0.1 (ours: a stray RST or keep-alive says nothing).
        capture_loss_ratio_min: share of the payload, or of the connections, with gaps: 0.001 (the 0.1 % of Zeek's
            CaptureLoss::too_much_loss).
        duplicates_ratio_min: share of frames that are copies: 0.01 (ours).
        ephemeral_ports: 28232 = 60999 - 32768 + 1, the default net.ipv4.ip_local_port_range of Linux.
        time_wait_warning_ratio, time_wait_critical_ratio: share of `ephemeral_ports` in TIME_WAIT between one client
            and one service: 0.5 and 0.8 (ours: the kernel's search for a free port slows down past half).
        time_wait_client_min: TIME_WAIT ends of a client toward one service at once from which a range of ports that
            looks narrower than `ephemeral_ports` is believed: 1000 (ours: 17 closes a second, and 62 ports of the
            sample; fewer ports are a program's own choice).
        time_wait_server_min: TIME_WAIT ends of a service at once that are worth telling: 1000 (ours: 17 closes a second
            by the server; 168 KB of kernel memory and harmless, but it tells which side closes first).
        subjects_max: findings of one kind at most, the worst are kept: 100 (ours).
    """

    syn_received_timeout_s: float = 63.0
    time_wait_s: float = 60.0
    handshake_wait_s: float = 1.0
    syn_retry_wait_s: float = 1.5
    syn_backlog: int = 4096
    syn_backlog_warning_ratio: float = 0.5
    syn_half_open_min: int = 64
    syn_completion_ratio_max: float = 0.97
    syn_window_s: float = 5.0
    syn_window_syns: int = 200
    syn_sources_min: int = 50
    syn_tries_per_source_max: float = 3.0
    syn_source_rate_per_s: int = 1024
    syn_rate_critical_per_s: int = 2048
    syn_once_ratio: float = 0.5
    syn_cookie_ratio: float = 0.9
    unanswered_min: int = 3
    unanswered_ratio_min: float = 0.5
    refused_ratio_min: float = 0.5
    host_services_max: int = 3
    lone_subjects_max: int = 10
    accept_queue_min: int = 3
    accept_queue_ratio_min: float = 0.3
    accept_queue_critical_count: int = 100
    scan_targets_min: int = 25
    scan_window_s: float = 600.0
    sources_exact: int = 65_536
    close_wait_age_s: float = 60.0
    close_wait_warning_count: int = 10
    close_wait_critical_count: int = 100
    close_wait_warning_ratio: float = 0.05
    close_wait_ratio_min_count: int = 3
    close_wait_starved_ratio: float = 0.5
    close_wait_loss_factor: float = 0.25
    close_wait_headless_factor: float = 1.5
    stuck_ends_min: int = 10
    orphans_max: int = 65_536
    orphans_warning_ratio: float = 0.5
    fin_wait_2_age_s: float = 60.0
    last_ack_fins_min: int = 3
    reset_storm_count: int = 100
    reset_storm_window_s: float = 10.0
    reset_storm_ratio_min: float = 0.5
    zero_windows_min: int = 3
    zero_window_warning_count: int = 10
    zero_window_warning_ratio: float = 0.5
    one_sided_packets_min: int = 3
    one_sided_ratio_min: float = 0.1
    capture_loss_ratio_min: float = 0.001
    duplicates_ratio_min: float = 0.01
    ephemeral_ports: int = 28_232
    time_wait_warning_ratio: float = 0.5
    time_wait_critical_ratio: float = 0.8
    time_wait_client_min: int = 1000
    time_wait_server_min: int = 1000
    subjects_max: int = 100

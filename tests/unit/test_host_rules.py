"""What is wrong with a host, and what is not: each rule on sockets and counters made by hand, at its thresholds."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from host_looks import HOST, NOON, SECOND, look, many, sock

from conntrack.detect.finding import Finding
from conntrack.host.accept_queue import AcceptQueue
from conntrack.host.close_wait import CloseWait
from conntrack.host.closing import FinWait2, LastAck
from conntrack.host.conntrack_table import ConntrackTable
from conntrack.host.options import HostOptions
from conntrack.host.probe import Probe
from conntrack.host.rates import Resets, Retransmissions
from conntrack.host.rule import Rule
from conntrack.host.syn_flood import SynFlood
from conntrack.host.time_wait import TimeWait, TimeWaitTable
from conntrack.host.watch import RULES, Watch

WEB = ("10.0.0.2", 80)
LISTENER = ("0.0.0.0", 80)


def found(rule: type[Rule], *looks: Any, **options: Any) -> list[Finding]:
    one = rule(HostOptions(**options))
    for each in looks:
        one.feed(each)
    return one.findings()


def only(rule: type[Rule], *looks: Any, **options: Any) -> Finding:
    (finding,) = found(rule, *looks, **options)
    assert finding.kind == rule.kind
    return finding


def listener(**fields: Any) -> Any:
    return sock("LISTEN", LISTENER, **{"send_queue": 128, "pid": 7, "process": b"web", **fields})


class TestCloseWait:
    def test_age_is_the_threshold(self) -> None:
        young, old = many(20, "CLOSE_WAIT", WEB, age_s=59.9), many(20, "CLOSE_WAIT", WEB, age_s=60)
        assert found(CloseWait, look(listener(), *young)) == []
        assert only(CloseWait, look(listener(), *old)).count == 20

    @pytest.mark.parametrize(
        ("leaking", "healthy", "severity"),
        [(1, 0, "info"), (2, 0, "info"), (3, 0, "warning"), (3, 57, "warning"), (3, 58, "info"), (10, 999, "warning")],
    )
    def test_severity(self, leaking: int, healthy: int, severity: str) -> None:
        rows = many(leaking, "CLOSE_WAIT", WEB, age_s=100) + many(healthy, "ESTABLISHED", WEB, "10.0.0.9")
        assert only(CloseWait, look(listener(), *rows)).severity == severity

    def test_a_hundred_are_critical(self) -> None:
        assert only(CloseWait, look(listener(), *many(99, "CLOSE_WAIT", WEB, age_s=61))).severity == "warning"
        assert only(CloseWait, look(listener(), *many(100, "CLOSE_WAIT", WEB, age_s=61))).severity == "critical"

    def test_the_service_is_the_one_that_listens_there(self) -> None:
        rows = many(3, "CLOSE_WAIT", WEB, age_s=61, pid=7, process=b"web")
        finding = only(CloseWait, look(listener(), *rows))
        assert finding.subject == "0.0.0.0:80"
        assert finding.evidence["side"] == "server"
        assert finding.evidence["processes"] == {"web/7": 3}
        assert finding.first_ts_ns == NOON - 61 * SECOND

    def test_ends_that_this_host_opened_are_told_of_its_address(self) -> None:
        rows = [
            sock("CLOSE_WAIT", ("10.0.0.2", 50_000 + n), ("10.0.0.9", 443), age_s=61, pid=8, process=b"pool")
            for n in range(12)
        ]
        finding = only(CloseWait, look(listener(), *rows))
        assert (finding.subject, finding.evidence["side"]) == ("10.0.0.2", "client")
        assert finding.evidence["processes"] == {"pool/8": 12}
        assert finding.next_steps[0] == "ss -tanpo state close-wait src 10.0.0.2"

    def test_what_nobody_accepted_is_accept_starvation(self) -> None:
        finding = only(CloseWait, look(listener(), *many(12, "CLOSE_WAIT", WEB, age_s=61, inode=0)))
        assert finding.evidence["cause"] == "accept_starvation"
        assert finding.evidence["not_accepted_ratio"] == 1

    def test_without_a_clock_the_first_look_is_the_beginning(self) -> None:
        rows = many(12, "CLOSE_WAIT", WEB, pid=7)
        assert found(CloseWait, look(listener(), *rows)) == []
        finding = only(CloseWait, look(listener(), *rows), look(listener(), *rows, at_s=60))
        assert finding.evidence["oldest_s"] == 60
        assert finding.caveats == ("Their age is only known from the earlier look.",)
        assert found(CloseWait, look(listener(), *rows), look(listener(), *rows, at_s=59.9)) == []

    def test_one_that_went_away_begins_anew(self) -> None:
        rows = many(12, "CLOSE_WAIT", WEB)
        looks = look(listener(), *rows), look(listener(), at_s=50), look(listener(), *rows, at_s=61)
        assert found(CloseWait, *looks) == []

    def test_growth(self) -> None:
        before, after = (many(number, "CLOSE_WAIT", WEB, age_s=61) for number in (10, 25))
        evidence = only(CloseWait, look(listener(), *before), look(listener(), *after, at_s=30)).evidence
        assert (evidence["growth"], evidence["growth_per_min"], evidence["observed_s"]) == (15, 30, 30)
        assert "growth" not in only(CloseWait, look(listener(), *after)).evidence


class TestAcceptQueue:
    @pytest.mark.parametrize(("queue", "backlog", "full"), [(127, 128, False), (128, 128, True), (129, 128, True)])
    def test_full_is_what_leaves_no_room(self, queue: int, backlog: int, full: bool) -> None:
        seen = look(listener(recv_queue=queue, send_queue=backlog))
        assert bool(found(AcceptQueue, seen, seen)) == full

    def test_a_backlog_of_0_holds_one(self) -> None:
        assert found(AcceptQueue, look(listener(recv_queue=0, send_queue=0))) == []
        assert only(AcceptQueue, look(listener(recv_queue=1, send_queue=0))).severity == "warning"

    def test_one_look_is_said_to_be_one(self) -> None:
        finding = only(AcceptQueue, look(listener(recv_queue=129)))
        assert finding.caveats == ("One look: the queue may have been full for a moment only.",)

    def test_full_for_a_moment_is_no_fault(self) -> None:
        full, empty = look(listener(recv_queue=129)), look(listener())
        assert found(AcceptQueue, full, empty, empty) == []
        assert found(AcceptQueue, empty, empty, full) == []

    def test_what_it_dropped_meanwhile_is_one(self) -> None:
        before = look(listener(drops=5), counters={"TcpExt.ListenOverflows": 1})
        after = look(listener(drops=104), at_s=2, counters={"TcpExt.ListenOverflows": 100})
        finding = only(AcceptQueue, before, after)
        assert (finding.severity, finding.evidence["dropped"]) == ("warning", 99)
        assert finding.caveats == ("It is not full now: a burst, or a pause of the program.",)
        more = look(listener(drops=105), at_s=2, counters={"TcpExt.ListenOverflows": 100})
        assert only(AcceptQueue, before, more).severity == "critical"

    def test_drops_for_another_reason_are_not_its_fault(self) -> None:
        before = look(listener(drops=5), counters={"TcpExt.ListenOverflows": 1})
        after = look(listener(drops=500), at_s=2, counters={"TcpExt.ListenOverflows": 1})
        assert found(AcceptQueue, before, after) == []

    def test_where_no_socket_tells_the_counter_does(self) -> None:
        before = look(listener(drops=-1, send_queue=-1), counters={"TcpExt.ListenOverflows": 1})
        after = look(listener(drops=-1, send_queue=-1), at_s=2, counters={"TcpExt.ListenOverflows": 9})
        finding = only(AcceptQueue, before, after)
        assert (finding.subject, finding.count) == (HOST, 8)

    def test_the_fullest_of_several_sockets_counts(self) -> None:
        seen = look(listener(recv_queue=1), listener(recv_queue=200), listener())
        finding = only(AcceptQueue, seen, seen)
        assert (finding.evidence["accept_queue"], finding.evidence["backlog"]) == (200, 128)

    def test_somaxconn_is_named_where_it_is_the_limit(self) -> None:
        seen = look(listener(recv_queue=129), settings={"net.core.somaxconn": (128,)})
        assert "(= 128) is what holds the backlog down" in only(AcceptQueue, seen).next_steps[-1]
        seen = look(listener(recv_queue=129), settings={"net.core.somaxconn": (4096,)})
        assert "(= 4096) allows more" in only(AcceptQueue, seen).next_steps[-1]


class TestSynFlood:
    def half_open(self, number: int, timeouts: int = 1) -> list[Any]:
        return many(number, "SYN_RECEIVED", WEB, timeouts=timeouts, inode=0)

    def test_only_abandoned_ones_count(self) -> None:
        assert found(SynFlood, look(listener(send_queue=4096), *self.half_open(2000, timeouts=0))) == []
        assert found(SynFlood, look(listener(send_queue=4096), *self.half_open(63))) == []
        finding = only(SynFlood, look(listener(send_queue=4096), *self.half_open(64)))
        assert (finding.subject, finding.severity, finding.count) == ("0.0.0.0:80", "warning", 64)

    def test_a_busy_server_has_some_too(self) -> None:
        """Clients on bad paths leave 100 half-open where 51 a second complete: 3,240 in the 63 s of a handshake."""
        for opened, expected in ((1029, 0), (1028, 1)):
            counters = [{"Tcp.PassiveOpens": 0}, {"Tcp.PassiveOpens": opened}]
            looks = [
                look(listener(send_queue=4096), *self.half_open(100), at_s=20 * n, counters=each)
                for n, each in enumerate(counters)
            ]
            assert len(found(SynFlood, *looks)) == expected
        crowded = [
            look(listener(send_queue=200), *self.half_open(100), at_s=20 * n, counters={"Tcp.PassiveOpens": 9000 * n})
            for n in (0, 1)
        ]
        assert only(SynFlood, *crowded).evidence["completion_ratio"] > 0.99, "half of the backlog is full"

    def test_a_small_backlog_that_fills(self) -> None:
        assert found(SynFlood, look(listener(send_queue=16), *self.half_open(7))) == []
        assert only(SynFlood, look(listener(send_queue=16), *self.half_open(8))).severity == "warning"
        assert only(SynFlood, look(listener(send_queue=16), *self.half_open(16))).severity == "critical"
        assert found(SynFlood, look(listener(send_queue=5), *self.half_open(5))) == []

    def test_a_full_accept_queue_is_another_fault(self) -> None:
        assert found(SynFlood, look(listener(recv_queue=129), *self.half_open(100))) == []

    def test_cookies_sent_meanwhile_are_critical(self) -> None:
        before = look(listener(), counters={"TcpExt.SyncookiesSent": 5})
        after = look(listener(), *self.half_open(3), at_s=2, counters={"TcpExt.SyncookiesSent": 1005})
        finding = only(SynFlood, before, after)
        assert (finding.severity, finding.evidence["shape"]) == ("critical", "syn_cookies")
        assert finding.evidence["syn_cookies_sent"] == 1000
        assert found(SynFlood, after) == [], "without an earlier look nobody knows when they were sent"

    def test_cookies_that_are_always_sent_say_nothing(self) -> None:
        always = {"net.ipv4.tcp_syncookies": (2,)}
        before = look(listener(), counters={"TcpExt.SyncookiesSent": 5}, settings=always)
        after = look(listener(), at_s=2, counters={"TcpExt.SyncookiesSent": 1005}, settings=always)
        assert found(SynFlood, before, after) == []

    def test_cookies_without_a_half_open_connection_are_the_host_s(self) -> None:
        before = look(counters={"TcpExt.SyncookiesSent": 5})
        after = look(at_s=2, counters={"TcpExt.SyncookiesSent": 6})
        assert only(SynFlood, before, after).subject == HOST

    def test_the_peak_is_that_of_all_looks(self) -> None:
        looks = [
            look(listener(send_queue=4096), *self.half_open(number), at_s=n) for n, number in enumerate((70, 90, 80))
        ]
        finding = only(SynFlood, *looks)
        assert (finding.count, finding.peak) == (80, 90)
        assert finding.evidence["half_open_peak_ts_ns"] == NOON + SECOND


class TestTimeWait:
    SMALL: ClassVar = {"net.ipv4.ip_local_port_range": (40_000, 40_099), "net.ipv4.tcp_tw_reuse": (0,)}

    def waits(self, number: int, service: tuple[str, int] = ("10.0.0.9", 443)) -> list[Any]:
        return [sock("TIME_WAIT", ("10.0.0.2", 40_000 + n), service, age_s=5, timer=3, inode=0) for n in range(number)]

    @pytest.mark.parametrize(
        ("number", "severity"), [(49, None), (50, "warning"), (79, "warning"), (80, "critical"), (100, "critical")]
    )
    def test_severity_by_the_share_of_the_ports(self, number: int, severity: str | None) -> None:
        findings = found(TimeWait, look(*self.waits(number), settings=self.SMALL))
        assert [finding.severity for finding in findings] == ([severity] if severity else [])

    def test_each_destination_has_ports_of_its_own(self) -> None:
        rows = self.waits(49) + self.waits(49, ("10.0.0.9", 444)) + self.waits(60, ("10.0.0.8", 443))
        finding = only(TimeWait, look(*rows, settings=self.SMALL))
        assert (finding.subject, finding.evidence["service"], finding.count) == ("10.0.0.2", "10.0.0.8:443", 60)
        assert finding.evidence["rate_per_s"] == 6

    def test_other_sockets_there_are_told_too(self) -> None:
        rows = [*self.waits(60), sock("ESTABLISHED", ("10.0.0.2", 40_090), ("10.0.0.9", 443))]
        assert only(TimeWait, look(*rows, settings=self.SMALL)).evidence["other_sockets_there"] == 1

    def test_ports_that_can_be_taken_again_are_no_emergency(self) -> None:
        settings = {**self.SMALL, "net.ipv4.tcp_tw_reuse": (1,)}
        finding = only(TimeWait, look(*self.waits(100), settings=settings))
        assert finding.severity == "warning"
        assert "tcp_tw_reuse = 1" in finding.caveats[0]
        settings["net.ipv4.tcp_tw_reuse"] = (2,)  # on loopback alone
        assert only(TimeWait, look(*self.waits(100), settings=settings)).severity == "critical"
        rows = [sock("TIME_WAIT", ("127.0.0.1", 40_000 + n), ("127.0.0.1", 443)) for n in range(90)]
        assert only(TimeWait, look(*rows, settings=settings)).severity == "warning"

    def test_a_server_s_cost_memory_only(self) -> None:
        rows = many(1000, "TIME_WAIT", WEB, age_s=1, timer=3, inode=0)
        assert found(TimeWait, look(listener(), *rows[1:], settings=self.SMALL)) == []
        finding = only(TimeWait, look(listener(), *rows, settings=self.SMALL))
        assert (finding.subject, finding.severity, finding.evidence["side"]) == ("0.0.0.0:80", "info", "server")

    def test_the_kernel_s_limit(self) -> None:
        limit = {"net.ipv4.tcp_max_tw_buckets": (100,)}
        assert found(TimeWaitTable, look(*self.waits(49), settings=limit)) == []
        assert only(TimeWaitTable, look(*self.waits(50), settings=limit)).severity == "warning"
        assert only(TimeWaitTable, look(*self.waits(80), settings=limit)).severity == "critical"
        counters = [{"TcpExt.TCPTimeWaitOverflow": number} for number in (4, 5)]
        looks = [look(*self.waits(10), settings=limit, counters=each, at_s=n) for n, each in enumerate(counters)]
        assert only(TimeWaitTable, *looks).severity == "critical"
        assert found(TimeWaitTable, look(*self.waits(50))) == [], "no limit is known"


class TestClosing:
    def test_orphans_and_others_have_ages_of_their_own(self) -> None:
        assert found(FinWait2, look(*many(10, "FIN_WAIT_2", WEB, age_s=9.9, inode=0))) == []
        assert only(FinWait2, look(*many(10, "FIN_WAIT_2", WEB, age_s=10, inode=0))).evidence["orphaned"] == 10
        assert found(FinWait2, look(*many(10, "FIN_WAIT_2", WEB, age_s=59.9))) == []
        assert only(FinWait2, look(*many(10, "FIN_WAIT_2", WEB, age_s=60))).evidence["orphaned"] == 0
        assert found(FinWait2, look(*many(9, "FIN_WAIT_2", WEB, age_s=99, inode=0))) == []
        assert found(FinWait2, look(*many(99, "FIN_WAIT_2", WEB, inode=0))) == [], "no clock tells"

    def test_last_acks_are_proved_by_repetition(self) -> None:
        assert found(LastAck, look(listener(), *many(10, "LAST_ACK", WEB, timeouts=1, inode=0))) == []
        assert found(LastAck, look(listener(), *many(9, "LAST_ACK", WEB, timeouts=2, inode=0))) == []
        finding = only(LastAck, look(listener(), *many(10, "LAST_ACK", WEB, timeouts=2, inode=0)))
        assert (finding.subject, finding.severity, finding.count) == ("0.0.0.0:80", "info", 10)
        assert finding.evidence["fins_repeated_most"] == 2

    def test_half_of_the_orphans_that_the_kernel_bears_are_a_warning(self) -> None:
        rows = many(50, "LAST_ACK", WEB, timeouts=3, inode=0)
        settings = {"net.ipv4.tcp_max_orphans": (100,)}
        assert only(LastAck, look(*rows, settings=settings)).severity == "warning"
        assert only(LastAck, look(*rows[:49], settings=settings)).severity == "info"


class TestRates:
    def retransmissions(self, again: int, sent: int) -> list[Any]:
        counters = [{"Tcp.RetransSegs": 7, "Tcp.OutSegs": 5}, {"Tcp.RetransSegs": 7 + again, "Tcp.OutSegs": 5 + sent}]
        return [look(counters=each, at_s=10 * n) for n, each in enumerate(counters)]

    @pytest.mark.parametrize(
        ("again", "sent", "severity"),
        [(10, 989, None), (9, 991, None), (10, 990, "info"), (49, 951, "info"), (50, 950, "warning"), (0, 9999, None)],
    )
    def test_share_of_retransmissions(self, again: int, sent: int, severity: str | None) -> None:
        findings = found(Retransmissions, *self.retransmissions(again, sent))
        assert [finding.severity for finding in findings] == ([severity] if severity else [])

    def test_repeated_syns_are_another_fault(self) -> None:
        before, after = self.retransmissions(500, 500)
        looks = [
            look(counters={**each.counters, "TcpExt.TCPSynRetrans": number}, at_s=n)
            for n, (each, number) in enumerate(((before, 0), (after, 500)))
        ]
        assert found(Retransmissions, *looks) == []

    def test_the_sockets_tell_towards_whom(self) -> None:
        before, after = self.retransmissions(100, 900)
        first = [sock("ESTABLISHED", WEB, ("10.0.0.1", 1), flow_id=1, retransmits=5)]
        last = [
            sock("ESTABLISHED", WEB, ("10.0.0.1", 1), flow_id=1, retransmits=65),
            sock("ESTABLISHED", WEB, ("10.0.0.3", 1), flow_id=2, retransmits=40),
            sock("ESTABLISHED", WEB, ("10.0.0.4", 1), flow_id=3, retransmits=-1),
        ]
        looks = look(*first, counters=before.counters), look(*last, counters=after.counters, at_s=5)
        finding = only(Retransmissions, *looks)
        assert finding.evidence["top_peers"] == {"10.0.0.1": 60, "10.0.0.3": 40}
        assert finding.flow_ids == (1, 2)

    def test_nothing_is_known_of_one_look(self) -> None:
        (last,) = self.retransmissions(500, 500)[1:]
        assert found(Retransmissions, last) == found(Resets, last) == []

    @pytest.mark.parametrize(
        ("resets", "seconds", "opened", "severity"),
        [
            (99, 2, 100, None),
            (100, 2, 100, "warning"),
            (100, 2, 201, "info"),
            (199, 20, 1, None),
            (200, 20, 1, "warning"),
        ],
    )
    def test_resets(self, resets: int, seconds: float, opened: int, severity: str | None) -> None:
        counters = [{}, {"Tcp.EstabResets": resets, "Tcp.PassiveOpens": opened}]
        zero = dict.fromkeys(counters[1], 0)
        looks = look(counters=zero), look(counters=counters[1], at_s=seconds)
        assert [finding.severity for finding in found(Resets, *looks)] == ([severity] if severity else [])

    def test_a_counter_that_went_back_has_not_grown(self) -> None:
        looks = look(counters={"Tcp.EstabResets": 900}), look(counters={"Tcp.EstabResets": 5}, at_s=1)
        assert found(Resets, *looks) == []


class TestConntrackTable:
    def at(self, entries: int, **more: Any) -> Any:
        settings = {"net.netfilter.nf_conntrack_count": (entries,), "net.netfilter.nf_conntrack_max": (1000,)}
        return look(settings=settings, **more)

    def test_severity_by_how_full_it_is(self) -> None:
        assert found(ConntrackTable, self.at(799)) == []
        assert only(ConntrackTable, self.at(800)).severity == "warning"
        assert only(ConntrackTable, self.at(949)).severity == "warning"
        assert only(ConntrackTable, self.at(950)).severity == "critical"

    def test_drops_are_critical_however_full(self) -> None:
        counters = [
            {"nf_conntrack.drop": 5, "nf_conntrack.early_drop": 0},
            {"nf_conntrack.drop": 6, "nf_conntrack.early_drop": 2},
        ]
        looks = [self.at(10, counters=each, at_s=n) for n, each in enumerate(counters)]
        finding = only(ConntrackTable, *looks)
        assert (finding.severity, finding.evidence["dropped"], finding.subject) == ("critical", 3, HOST)

    def test_where_it_is_not_loaded_there_is_nothing(self) -> None:
        assert found(ConntrackTable, look()) == []


class TestWatch:
    def test_every_rule_has_a_kind_of_its_own(self) -> None:
        assert len({rule.kind for rule in RULES}) == len(RULES)

    def test_an_empty_host_is_healthy(self) -> None:
        watch = Watch()
        watch.feed(look())
        watch.feed(look(at_s=1))
        assert watch.findings() == []
        assert (watch.looks, watch.first.at_ts_ns, watch.last.at_ts_ns) == (2, NOON, NOON + SECOND)

    def test_the_worst_come_first(self) -> None:
        watch = Watch()
        watch.feed(look(listener(recv_queue=200), *many(100, "CLOSE_WAIT", WEB, age_s=99)))
        assert [finding.severity for finding in watch.findings()] == ["critical", "warning"]

    def test_counters_are_counted_from_the_first_look_that_has_them(self) -> None:
        watch = Watch()
        watch.feed(look(source="before.ndjson"))
        watch.feed(look(at_s=60, counters={"Tcp.OutSegs": 100}))
        assert watch.grown("Tcp.OutSegs") is None
        watch.feed(look(at_s=62, counters={"Tcp.OutSegs": 130}))
        assert (watch.grown("Tcp.OutSegs"), watch.counted_s) == (30, 2)
        assert watch.grown("Tcp.NoSuch") is None


class TestProbe:
    def test_what_is_over_is_told_for_a_window_and_no_longer(self) -> None:
        """100 drops between the looks at 10 s and 20 s, and none before or after."""
        probe, told = Probe(60 * SECOND), {}
        for at_s in range(0, 300, 10):
            drops = 5 if at_s < 20 else 105
            probe.feed(look(listener(drops=drops), at_s=at_s, counters={"TcpExt.ListenOverflows": drops}))
            told[at_s] = [finding.kind for finding in probe.watch.findings()]
        heard = [at_s for at_s, kinds in told.items() if kinds == [AcceptQueue.kind]]
        assert heard == list(range(20, heard[-1] + 10, 10))
        assert 30 <= heard[-1] <= 80

    def test_growth_is_of_half_the_window_at_least(self) -> None:
        probe = Probe(60 * SECOND)
        for at_s in range(0, 300, 10):
            probe.feed(look(listener(), at_s=at_s))
            assert min(at_s, 30) <= (probe.watch.last.at_ts_ns - probe.watch.first.at_ts_ns) / SECOND <= 60

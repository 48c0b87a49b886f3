"""--where: what it finds, and how it says that it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from conntrack.core.abi import FLOW_DTYPE
from conntrack.export.where import WhereError, parse_where
from conntrack.states import NO_TIME_NS, FlowFlag, TcpState

FLOWS = np.zeros(4, FLOW_DTYPE)
FLOWS["flow_id"] = (1, 2, 3, 4)
FLOWS["ip_version"] = (4, 4, 4, 6)
FLOWS["client_ip"][:3, 10:12] = 255
FLOWS["client_ip"][:, 12:] = ((10, 0, 0, 1), (10, 0, 1, 1), (192, 168, 0, 1), (0, 0, 0, 1))
FLOWS["server_port"] = (80, 443, 8443, 80)
FLOWS["server_state"] = (TcpState.CLOSE_WAIT, TcpState.CLOSE_WAIT, TcpState.SYN_RECEIVED, TcpState.FIN_WAIT_1)
FLOWS["closed_ts_ns"] = (NO_TIME_NS, 10**9, 2 * 10**9, 3 * 10**9)
FLOWS["last_ts_ns"] = (0, 1_500_000_000, 60 * 10**9, 0)
FLOWS["flags"] = (0, FlowFlag.MIDSTREAM, FlowFlag.MIDSTREAM | FlowFlag.ONE_SIDED, 0)
FLOWS["history"][2, :3] = np.frombuffer(b"ShR", np.uint8)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("flow_id=3", [3]),
        ("flow_id == 3", [3]),
        ("flow_id!=3", [1, 2, 4]),
        ("server_port>=443", [2, 3]),
        ("server_port<99999999999999999999999", [1, 2, 3, 4]),
        ("server_port~443", [2, 3]),
        ("server_state=CLOSE_WAIT and server_port=443", [2]),
        ("server_state=close-wait,server_port=80", [1]),
        ("server_state!=CLOSE_WAIT AND flow_id<4", [3]),
        ("server_state=SYN_RECV", [3]),
        ("server_state=FIN_WAIT1", [4]),
        ("server_state~WAIT", [1, 2, 4]),
        ("client_ip=10.0.0.1", [1]),
        ("client_ip=10.0.0.0/16", [1, 2]),
        ("client_ip!=10.0.0.0/16", [3, 4]),
        ("client_ip=::/0", [4]),
        ("client_ip~168", [3]),
        ("closed_ts=none", [1]),
        ("closed_ts!=none", [2, 3, 4]),
        ("closed_ts<=1970-01-01T00:00:02Z", [2, 3]),
        ("closed_ts < '1970-01-01 00:00:02'", [2]),
        ("duration_s>1", [2, 3]),
        ("duration_s=1.5", [2]),
        ("flags=midstream", [2, 3]),
        ("flags~one_sided", [3]),
        ("flags!=midstream", [1, 4]),
        ("zeek_history=ShR", [3]),
        ('zeek_history~"hR"', [3]),
        ("end_reason=open_at_end, direction_evidence=syn", [1, 2, 3, 4]),
    ],
)
def test_finds(where: str, found: list[int]) -> None:
    assert FLOWS["flow_id"][parse_where(where).mask(FLOWS)].tolist() == found


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "cannot read ''"),
        ("server_state", "cannot read 'server_state'"),
        ("flow_id=1 or flow_id=2", "cannot read 'flow_id=1 or flow_id=2'"),
        ("flow_id=1 and", "cannot read"),
        ("server_stat=CLOSED", "no column 'server_stat'; did you mean 'server_state'"),
        ("x=1", "no column 'x'; the columns are flow_id, "),
        ("server_state=OPEN", "server_state: no 'OPEN'; there are CLOSED, LISTEN"),
        ("server_state<CLOSED", "server_state: takes only = == != ~, not <"),
        ("flow_id=abc", "flow_id: 'abc' is not a number"),
        ("flow_id=1.5", "flow_id: '1.5' is not a number"),
        ("first_ts>yesterday", "first_ts: 'yesterday' is not a time"),
        ("duration_s>1m", "duration_s: '1m' is not a number of seconds"),
        ("client_ip=10.0.0.300", "client_ip: '10.0.0.300' does not appear to be"),
        ("client_ip<10.0.0.1", "client_ip: takes only"),
        ("flags=odd", "flags: no 'odd'; there are midstream"),
        ("flags<midstream", "flags: takes only"),
        ("flow_id=" + "9" * 10_000, "flow_id: "),
    ],
)
def test_says_what_is_wrong_in_one_line(where: str, message: str) -> None:
    with pytest.raises(WhereError) as caught:
        parse_where(where)
    assert str(caught.value).startswith("--where: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_none_of_no_rows() -> None:
    assert parse_where("server_port~4").mask(FLOWS[:0]).shape == (0,)

"""Three classic connections as `ctrack explain` tells them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from segments import Exchange, in_state
from told import tell

from conntrack.report.ladder import render_ladder, render_ladder_json
from conntrack.states import TcpState

Golden = Callable[[str, str], None]

(ESTABLISHED, CLOSED, TIME_WAIT) = (TcpState.ESTABLISHED, TcpState.CLOSED, TcpState.TIME_WAIT)


def plain() -> Exchange:
    """A request, an answer long enough to be folded, and a close in four steps."""
    story = in_state(ESTABLISHED, ESTABLISHED).client("P.", 120).server(".")
    for _ in range(12):
        story.server(".", 1460).client(".")
    return story.server("FP.", 300).client(".").client("F.").server(".")


def trouble() -> Exchange:
    """Losses, a full receiver, a probe, a reset that is challenged and one that is not."""
    story = in_state(ESTABLISHED, ESTABLISHED).client("P.", 100).again().server(".")
    story.server(".", 1460, seq=1461).client(".", ack=1).server("P.", 1460, seq=1).client(".", ack=2921, window=0)
    story.wait(1).server(".", seq=2920).client(".", window=0).client(".", window=4096)
    story.server("P.", 500, seq=2821).client(".")
    return story.client("R", seq=700).server(".").client("R", seq=101)


def reuse() -> Exchange:
    """IPv6: the same ports three times: out of TIME_WAIT, and after it."""
    ends = ("[2001:db8::aaaa:bbbb:cccc:1]:40000", "[2001:db8::ffff:ffff:ffff:2]:443")
    story = in_state(CLOSED, TIME_WAIT, client=ends[0], server=ends[1]).wait(5).reopen(90_000_000, 95_000_000)
    story.client("S").server("S.").client(".").server("F.").client(".").client("F.").server(".").wait(90)
    return story.reopen(190_000_000, 195_000_000).client("S").wait(1).again()


STORIES = {"plain": plain, "trouble": trouble, "reuse": reuse}


@pytest.mark.parametrize("name", STORIES)
def test_explain_as_text(golden: Golden, name: str) -> None:
    text = render_ladder(tell(STORIES[name](), after_s=30), files=[f"{name}.pcap"])
    assert max(map(len, text.splitlines())) <= 80
    golden(f"explain_{name}.txt", text)


def test_explain_in_colour_says_the_same(golden: Golden) -> None:
    stories = tell(trouble(), after_s=30)
    colored = render_ladder(stories, files=["trouble.pcap"], color=True)
    assert "\x1b[33m" in colored
    assert re.sub(r"\x1b\[\d*m", "", colored) == render_ladder(stories, files=["trouble.pcap"])


def test_explain_as_json(golden: Golden) -> None:
    stories = tell(trouble(), fold=False)
    golden("explain_trouble.json", render_ladder_json(stories, [{"flow_id": 1}], files=["trouble.pcap"]))

"""The HTML report in a real Chromium: it loads in silence, draws, sorts, filters, opens, obeys keys, needs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from devtools import Browser, Tab

from conntrack.report.model import Report

FIRST_COLUMN = (
    "[...document.querySelectorAll('#table tbody tr:not(.detail) td:first-child')].map((cell) => cell.innerText)"
)
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    '" onmouseover="alert(4)',
    "' autofocus onfocus='alert(5)",
    "javascript:alert(6)",
    "{{ 7 * 7 }}{% raw %}",
    "line\nfeed\ttab\x00nul\x1b[31m",
    "abc\u202efdp.exe",
    "\u05e9\u05dc\u05d5\u05dd",
    "]]>--><!--",
    "\udcff\udcfe",
    "&lt;b&gt;&amp;",
)


@pytest.fixture
def tab(browser: Browser, page: str) -> Tab:
    return browser.open(page)


def inked(tab: Tab, selector: str) -> int:
    """How many different colours a canvas holds; a blank one has one."""
    return int(
        tab.run(f"""(() => {{
            const canvas = document.querySelector("{selector} canvas");
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(pixels.buffer)).size;
        }})()""")
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_loads_in_silence_and_asks_for_nothing(browser: Browser, page: str, dark: bool, width: int) -> None:
    tab = browser.open(page, dark=dark, width=width)
    assert tab.complaints() == []
    assert tab.requests() == []
    assert tab.run("document.querySelector('h1').innerText").startswith("10.9.0.2:443 is under a SYN flood")
    assert tab.run("document.documentElement.scrollWidth") <= width, "the page itself never scrolls sideways"


@pytest.mark.parametrize("width", [360, 2560])
def test_many_findings_of_long_names_fit(browser: Browser, report: Report, tmp_path: Path, width: int) -> None:
    names = [f"[2001:db8:1234:5678:9abc:def0:{number:04x}:ffff]:65535" for number in range(20)]
    findings = tuple(replace(report.findings[number % 3], subject=name) for number, name in enumerate(names))
    services = tuple(report.services[0] | {"service": name} for name in names)
    path = tmp_path / "many.html"
    path.write_text(replace(report, findings=findings, services=services).to_html())
    tab = browser.open(path.as_uri(), width=width)
    assert tab.complaints() == []
    assert tab.run("document.querySelectorAll('.finding').length") == 20
    assert tab.run("document.documentElement.scrollWidth") <= width
    words = "(all => { all.selectNodeContents(document.querySelector('h1')); return all; })(document.createRange())"
    assert tab.run(f"{words}.getBoundingClientRect().right") <= width, "a name is broken rather than cut"
    seen = "document.querySelector('#table').parentElement"
    assert width < 2560 or tab.run(f"{seen}.scrollWidth <= {seen}.clientWidth"), "a wide screen shows all columns"


def test_charts_are_drawn_and_zoom_together(tab: Tab) -> None:
    for at in (1, 2):
        assert inked(tab, f"#chart-{at}") > 20
    whole = tab.run("charts.range()")
    tab.run("document.querySelector('#marks button').click()")
    near = tab.run("charts.range()")
    assert whole[0] < near[0] < near[1] < whole[1]
    assert not tab.run("document.getElementById('zoom-out').disabled")
    tab.run("document.getElementById('zoom-out').click()")
    assert tab.run("charts.range()") == whole


def test_a_finding_shows_the_series_of_its_service(tab: Tab, report: Report) -> None:
    tab.run("document.querySelector('#marks button').click()")
    assert tab.run("document.getElementById('group').selectedOptions[0].innerText") == "10.9.0.2:443"
    assert tab.run("document.getElementById('chart-2').hidden")
    label = tab.run("document.getElementById('chart-1').getAttribute('aria-label')")
    assert "The server's ends, 10.9.0.2:443" in label and "SYN_RECEIVED" in label and "CLOSE_WAIT" not in label
    assert inked(tab, "#chart-1") > 20
    assert report.group_series is not None
    peak = max(report.group_series.services["10.9.0.2:443"]["SYN_RECEIVED"])
    shown = "Math.max(...unpack(DATA.series.find((each) => each.name === '10.9.0.2:443').ends[0].states.SYN_RECEIVED))"
    assert tab.run(shown) == peak == 193
    tab.run("group.value = 0; group.dispatchEvent(new Event('change'))")
    assert not tab.run("document.getElementById('chart-2').hidden")
    assert tab.complaints() == []


def test_a_chart_obeys_the_mouse_and_the_keys(tab: Tab) -> None:
    tab.run("document.getElementById('chart-2').scrollIntoView({block: 'center'})")
    left, top = tab.run(
        "(() => { const box = document.querySelector('#chart-2 .u-over').getBoundingClientRect();"
        " return [box.left, box.top]; })()"
    )
    whole = tab.run("charts.range()")
    for kind, x in (("mouseMoved", 100), ("mousePressed", 100), ("mouseMoved", 200), ("mouseReleased", 300)):
        tab.call("Input.dispatchMouseEvent", type=kind, x=left + x, y=top + 50, button="left", buttons=1, clickCount=1)
    near = tab.run("charts.range()")
    assert near[1] - near[0] < 0.5 * (whole[1] - whole[0])
    tab.run("document.getElementById('chart-1').focus()")
    tab.press("ArrowRight")
    moved = tab.run("charts.range()")
    assert moved[0] > near[0] and moved[1] - moved[0] == pytest.approx(near[1] - near[0])
    tab.press("0")
    assert tab.run("charts.range()") == whole
    assert tab.complaints() == []


def test_the_table_sorts_by_its_headings(tab: Tab) -> None:
    heading = "document.querySelector('#table [data-key=id] button')"
    tab.run(f"{heading}.click()")
    rising = [int(cell) for cell in tab.run(FIRST_COLUMN)]
    assert rising == sorted(rising) and len(rising) == 100
    tab.run(f"{heading}.click()")
    falling = [int(cell) for cell in tab.run(FIRST_COLUMN)]
    assert falling == sorted(falling, reverse=True) and falling[0] > rising[-1]
    assert tab.run("document.querySelector('#table [data-key=id]').getAttribute('aria-sort')") == "descending"
    tab.run("document.querySelector('#table [data-key=duration] button').click()")
    assert tab.run("document.querySelector('#table [data-key=duration]').getAttribute('aria-sort')") == "descending"


def test_the_table_filters_by_words(tab: Tab, report: Report) -> None:
    tab.run("document.getElementById('filter').focus()")
    tab.call("Input.insertText", text="close_wait :8080")
    assert tab.run("document.getElementById('matches').innerText") == "76 of 1,057 rows"
    assert report.flows is not None
    leaks = report.flows["flow_id"][report.flows["server_state"] == 7].tolist()
    assert sorted(int(cell) for cell in tab.run(FIRST_COLUMN)) == leaks
    tab.call("Input.insertText", text=" nothing-has-this")
    assert tab.run("document.getElementById('matches').innerText") == "0 of 1,057 rows"
    assert tab.run(FIRST_COLUMN) == []


def test_the_table_has_tags_and_ages_where_there_are_any(browser: Browser, report: Report, tmp_path: Path) -> None:
    assert report.flows is not None
    rows = report.flows.copy()
    rows["tag"] = rows["flow_id"]
    rows["reused_age_ns"] = 2_500_000_000
    path = tmp_path / "tagged.html"
    path.write_text(replace(report, flows=rows, chosen=None).to_html())
    tab = browser.open(path.as_uri())
    tab.run("document.querySelector('#table [data-key=tag] button').click()")
    cells = (
        "[...document.querySelectorAll('#table tbody tr:not(.detail) td:nth-child(4)')].map((cell) => cell.innerText)"
    )
    assert tab.run(cells) == tab.run(FIRST_COLUMN)
    tab.run("document.querySelector('#table tbody tr a').click()")
    assert "2.5 s of TIME_WAIT" in tab.run("document.querySelector('#table tr.detail').innerText")
    assert tab.complaints() == []


def test_the_table_has_pages(tab: Tab) -> None:
    first = tab.run(FIRST_COLUMN)
    tab.run("document.querySelector('#pages button:last-of-type').click()")
    assert not set(first) & set(tab.run(FIRST_COLUMN))
    assert "Page 2 of 11" in tab.run("document.getElementById('pages').innerText")


def test_a_finding_opens_its_connections_and_their_ladders(tab: Tab, report: Report) -> None:
    tab.run("document.querySelector('[data-finding=\"2\"]').click()")
    assert tab.run("document.getElementById('matches').innerText") == "76 of 1,057 rows"
    assert [int(cell) for cell in tab.run(FIRST_COLUMN)] == list(report.findings[1].flow_ids)
    tab.run("document.querySelector('#table [data-connection=\"4\"]').click()")
    detail = tab.run("document.querySelector('#table .detail').innerText")
    assert "CLOSE_WAIT (seen)" in detail and "closed first" in detail
    tab.run("document.querySelector('#table .detail a').click()")
    assert tab.run("document.querySelector('[data-ladder=\"4\"]').open")
    ladder = tab.run("document.querySelector('[data-ladder=\"4\"]').innerText")
    assert "server ESTABLISHED → CLOSE_WAIT: the peer closed first [3.10.7.4]" in ladder


def test_a_connection_under_a_finding_opens_in_the_table(tab: Tab) -> None:
    tab.run("document.querySelector('#finding-1 a[data-connection=\"2204\"]').click()")
    assert tab.run("document.querySelector('#table tr.open').id") == "connection-2204"
    assert tab.run("document.activeElement.innerText") == "2204"


def test_a_service_filters_the_table(tab: Tab) -> None:
    tab.run("document.querySelector('[data-filter=\"10.9.0.2:8080\"]').click()")
    assert tab.run("document.getElementById('matches').innerText") == "76 of 1,057 rows"


def test_an_address_with_a_connection_opens_it(browser: Browser, page: str) -> None:
    tab = browser.open(f"{page}#connection-4")
    assert tab.run("document.querySelector('#table tr.open').id") == "connection-4"


def test_the_keys(tab: Tab) -> None:
    tab.press("j")
    assert tab.run("document.activeElement.id") == "finding-1"
    tab.press("j")
    assert tab.run("document.activeElement.id") == "finding-2"
    tab.press("k")
    assert tab.run("document.activeElement.id") == "finding-1"
    tab.press("?")
    assert tab.run("document.getElementById('help').matches(':popover-open')")
    assert "backlog" in tab.run("document.getElementById('help').innerText")
    tab.press("Escape")
    assert not tab.run("document.getElementById('help').matches(':popover-open')")
    tab.press("/")
    assert tab.run("document.activeElement.id") == "filter"
    tab.press("j")
    assert tab.run("document.getElementById('filter').value") == "j", "typing is no command"


def test_everything_can_be_reached_with_tab_alone(tab: Tab) -> None:
    tab.run("document.querySelector('#table [data-key=server_state] button').focus()")
    tab.press("Enter")
    assert tab.run("document.querySelector('#table [data-key=server_state]').getAttribute('aria-sort')") == "ascending"
    reached = set()
    tab.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    for _ in range(80):
        reached.add(tab.run("document.activeElement.id || document.activeElement.className"))
        tab.press("Tab")
    assert {"skip", "theme", "help-button", "script show", "chart-1", "chart-2", "filter"} <= reached


def test_dark_follows_the_system_until_it_is_chosen(browser: Browser, page: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 26)"
    tab = browser.open(page, dark=True)
    assert tab.run(background) == dark
    tab.press("t")
    assert (tab.run(background), tab.run("theme.innerText")) == (light, "Theme: light")
    assert inked(tab, "#chart-2") > 20
    tab.press("t")
    assert (tab.run(background), tab.run("theme.innerText")) == (dark, "Theme: dark")
    tab.press("t")
    assert tab.run("theme.innerText") == "Theme: system"
    assert browser.open(page).run(background) == light


def test_without_scripts_all_that_matters_is_there(browser: Browser, page: str) -> None:
    tab = browser.open(page, scripts=False)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)  # for our own questions; the page's never ran
    assert not tab.run("document.documentElement.classList.contains('scripted')")
    text = tab.run("document.body.innerText")
    for words in (
        "10.9.0.2:443 is under a SYN flood",
        "half-open at the peak",
        "ss -tan state syn-recv",
        "CLOSE_WAIT leak",
        "Connection 2202, segment by segment",
        "States over time",
        "unanswered",
        "All 1,057 connections are in this table.",
        "Without JavaScript the first 100 of the 1,057 are shown.",
        "6,057 packets (502 kB), 6,057 TCP segments",
    ):
        assert words in text, words
    assert tab.run("document.querySelectorAll('#table tbody tr').length") == 100
    assert tab.run("document.querySelectorAll('#time > .scroll .sparks polyline').length") == 8
    assert "The same by service: all of them" in text
    tab.run("document.querySelector('#services-over-time summary').click()")
    rows = tab.run("document.querySelector('#services-over-time').innerText")
    assert "10.9.0.2:8080" in rows and "CLOSE_WAIT\t76\t06:15:54\t76" in rows
    assert tab.run("document.querySelectorAll('#services-over-time polyline').length") == 4
    assert "Filter" not in text, "what would do nothing is not shown"
    tab.run("document.getElementById('help-button').click()")
    assert tab.run("document.getElementById('help').matches(':popover-open')")


def test_hostile_strings_are_only_text(browser: Browser, report: Report, tmp_path: Path) -> None:
    everything = " ".join(HOSTILE)
    finding = replace(
        report.findings[0],
        kind=everything,
        subject=everything,
        evidence={**{text: text for text in HOSTILE}, "list": list(HOSTILE), "dict": {everything: everything}},
        caveats=HOSTILE,
        next_steps=HOSTILE,
    )
    capture = replace(report.capture, files=HOSTILE, faults=HOSTILE, skipped=dict.fromkeys(HOSTILE, 3))
    services = ({**report.services[0], "service": everything},)
    hostile = replace(report, findings=(finding, report.findings[1]), capture=capture, services=services)
    path = tmp_path / "hostile.html"
    path.write_text(hostile.to_html())
    plain = tmp_path / "plain.html"
    plain.write_text(report.to_html())
    tab, ordinary = browser.open(path.as_uri()), browser.open(plain.as_uri())
    assert tab.complaints() == []
    assert tab.requests() == []
    for kind in ("script", "img, image, object, embed, iframe", "[onerror], [onmouseover], [onfocus], [autofocus]"):
        assert tab.run(f"document.querySelectorAll('{kind}').length") == ordinary.run(
            f"document.querySelectorAll('{kind}').length"
        )
    text = tab.run("document.body.innerText")
    for shown in (
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "line\\nfeed\\ttab\\x00nul\\x1b[31m",
        "abc\\u202efdp.exe",
    ):
        assert shown in text, shown
    assert not set(text) & set("\x1b\u202e\x00")


def test_what_is_put_into_the_page_later_does_not_run(tab: Tab) -> None:
    """The policy allows the page's own scripts by their hashes: were something to slip through, it would stay text."""
    for attempt in (
        "document.body.appendChild(document.createElement('script')).append('window.slipped = 1')",
        "document.body.append(Object.assign(document.createElement('script'), {src: 'data:,window.slipped = 2'}))",
        "document.querySelector('h1').setAttribute('onclick', 'window.slipped = 3')",
        "document.querySelector('h1').innerHTML = '<img src=x onerror=\"window.slipped = 4\">'",
        "document.querySelector('h1').append(new Image()), document.images[0].src = 'https://example.invalid/'",
    ):
        tab.run(f"(() => {{ try {{ {attempt} }} catch (error) {{ return error.name }} }})()")
    tab.run("document.querySelector('h1').click()")
    complaints = tab.complaints()
    assert tab.run("window.slipped") is None
    assert tab.requests() == []
    assert len(complaints) >= 5


def test_in_a_notebook_it_stands_in_a_frame(browser: Browser, report: Report, tmp_path: Path) -> None:
    path = tmp_path / "cell.html"
    path.write_text(f"<!doctype html><title>cell</title>{report._repr_html_()}")
    tab = browser.open(path.as_uri())
    tab.run("new Promise((done) => setTimeout(done, 500))")
    assert tab.run("document.querySelector('iframe').contentDocument") is None, "sandboxed: an origin of its own"
    assert tab.complaints() == []
    tree = tab.call("Page.getFrameTree")["frameTree"]["childFrames"]
    world = tab.call("Page.createIsolatedWorld", frameId=tree[0]["frame"]["id"])["executionContextId"]
    rows = tab.call(
        "Runtime.evaluate", contextId=world, expression="document.querySelectorAll('#table tbody tr').length"
    )
    assert rows["result"]["value"] == 100


def test_a_capture_without_anything_has_a_page_too(browser: Browser, report: Report, tmp_path: Path) -> None:
    none = replace(report.connections, total=0, client_states={}, server_states={})
    capture = replace(report.capture, packets=0, bytes=0, first_ts_ns=None, last_ts_ns=None)
    empty = replace(
        report, findings=(), series=None, services=(), flows=None, stories=(), connections=none, capture=capture
    )
    path = tmp_path / "empty.html"
    path.write_text(empty.to_html())
    tab = browser.open(path.as_uri())
    assert tab.complaints() == []
    assert "No packets in this capture." in tab.run("document.body.innerText")

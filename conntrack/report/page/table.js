"use strict";
/* The table of connections: sorted by any column, filtered by words and by finding, a page at a time. */

const table = (() => {
  const PAGE = 100;
  const column = Object.fromEntries(Object.entries(DATA.table.columns).map(([name, packed]) => [name, unpack(packed)]));
  const { ips, rows } = DATA.table;
  const body = document.querySelector("#table tbody");
  const heads = [...document.querySelectorAll("#table thead th")];
  const place = new Map();
  for (let row = 0; row < rows; row++) place.set(column.id[row], row);
  const ladders = new Set(DATA.ladders);

  const endpoint = (side, row) => {
    const ip = ips[column[`${side}_ip`][row]];
    return `${ip.includes(":") ? `[${ip}]` : ip}:${column[`${side}_port`][row]}`;
  };
  const signs = (row) => DATA.signs.filter((_, bit) => (column.signs[row] >> bit) & 1).join(", ");
  const both = (name) => (row) => column[`client_${name}`][row] + column[`server_${name}`][row];
  const plain = (name) => (row) => column[name][row];

  /** By key of a heading: what a row is sorted by, what it shows, and the class of the cell. */
  const COLUMNS = {
    id: [plain("id"), (row) => String(column.id[row]), "number"],
    client: [(row) => column.client_ip[row] * 65536 + column.client_port[row], (row) => endpoint("client", row), "end"],
    server: [(row) => column.server_ip[row] * 65536 + column.server_port[row], (row) => endpoint("server", row), "end"],
    tag: [plain("tag"), (row) => String(column.tag?.[row] || ""), "number"],
    client_state: [plain("client_state"), (row) => DATA.states[column.client_state[row]], "state"],
    server_state: [plain("server_state"), (row) => DATA.states[column.server_state[row]], "state"],
    start: [plain("start"), (row) => clockText(column.start[row], { digits: 3 }), "number"],
    duration: [plain("duration"), (row) => durationText(column.duration[row]), "number"],
    client_payload_bytes: [plain("client_payload_bytes"), (row) => bytesText(column.client_payload_bytes[row]), "number"],
    server_payload_bytes: [plain("server_payload_bytes"), (row) => bytesText(column.server_payload_bytes[row]), "number"],
    segments: [both("packets"), (row) => count(both("packets")(row)), "number"],
    retransmits: [both("retransmits"), (row) => String(both("retransmits")(row) || ""), "number"],
    ended: [plain("end_reason"), (row) => DATA.ends[column.end_reason[row]], "word"],
    signs: [plain("signs"), signs, "word"],
  };
  const WORDS = ["client", "server", "tag", "client_state", "server_state", "ended", "signs"];

  let words = null; // of each row, in lower case: made when the first filter is given
  let shown = Array.from({ length: rows }, (_, row) => row);
  let page = 0;
  let sorted = { key: null, down: false };
  let open = null;

  function haystack() {
    words ??= Array.from({ length: rows }, (_, row) =>
      `${column.id[row]} ${WORDS.map((key) => COLUMNS[key][1](row)).join(" ")}`.toLowerCase(),
    );
    return words;
  }

  function select() {
    const wanted = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const finding = DATA.findings[document.getElementById("behind").value];
    shown = finding
      ? finding.ids.map((id) => place.get(id)).filter((row) => row !== undefined)
      : Array.from({ length: rows }, (_, row) => row);
    if (wanted.length) shown = shown.filter((row) => wanted.every((word) => haystack()[row].includes(word)));
    page = 0;
    order();
  }

  function order() {
    const { key, down } = sorted;
    if (key) {
      const value = COLUMNS[key][0];
      const keys = new Float64Array(rows);
      for (const row of shown) keys[row] = value(row);
      shown.sort((a, b) => (down ? keys[b] - keys[a] : keys[a] - keys[b]) || a - b);
    }
    for (const head of heads) {
      if (head.dataset.key === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    render();
  }

  function render() {
    const from = page * PAGE;
    body.replaceChildren(...shown.slice(from, from + PAGE).flatMap((row) => (row === open ? [line(row), detail(row)] : [line(row)])));
    const pages = Math.max(Math.ceil(shown.length / PAGE), 1);
    document.getElementById("matches").textContent =
      shown.length === rows ? `${count(rows)} rows` : `${count(shown.length)} of ${count(rows)} rows`;
    const bar = document.getElementById("pages");
    bar.hidden = pages < 2;
    const turn = (label, to) => {
      const button = make("button", { type: "button", textContent: label, disabled: to < 0 || to >= pages });
      button.addEventListener("click", () => {
        page = to;
        render();
        document.getElementById("table-controls").scrollIntoView();
        document.getElementById("pages").querySelector(`button:nth-of-type(${to > from / PAGE ? 2 : 1})`).focus({ preventScroll: true });
      });
      return button;
    };
    bar.replaceChildren(turn("Previous", page - 1), turn("Next", page + 1), `Page ${count(page + 1)} of ${count(pages)}`);
  }

  function line(row) {
    const element = make("tr", { id: `connection-${column.id[row]}`, className: row === open ? "open" : "" });
    for (const head of heads) {
      const [, text, style] = COLUMNS[head.dataset.key];
      const cell = make("td", { className: style });
      if (head.dataset.key === "id") {
        const button = make("a", { href: `#connection-${column.id[row]}`, textContent: text(row) });
        button.dataset.connection = column.id[row];
        button.setAttribute("aria-expanded", String(row === open));
        cell.append(button);
      } else cell.textContent = text(row);
      if (head.dataset.key === "start") cell.title = clockText(column.start[row], { date: true });
      element.append(cell);
    }
    return element;
  }

  function detail(row) {
    const pairs = [["start", clockText(column.start[row], { date: true })], ["handshake", durationText(column.handshake[row]) || "not known"]];
    for (const side of ["client", "server"]) {
      const value = (name) => column[`${side}_${name}`][row];
      pairs.push(
        [`${side} is`, `${DATA.states[value("state")]} (${DATA.evidence[value("state_evidence")]})`],
        [`${side}: segments, bytes`, `${count(value("packets"))}, ${bytesText(value("payload_bytes"))}`],
      );
      if (value("retransmits")) pairs.push([`${side}: retransmitted`, count(value("retransmits"))]);
      if (value("zero_windows")) pairs.push([`${side}: window of 0`, count(value("zero_windows"))]);
      if (value("gap_bytes")) pairs.push([`${side}: not in the capture`, bytesText(value("gap_bytes"))]);
    }
    pairs.push(["closed first", DATA.closed_by[column.closed_by[row]]]);
    const flags = DATA.flags.filter((_, bit) => (column.flags[row] >> bit) & 1);
    if (flags.length) pairs.push(["flags", flags.join(", ")]);
    const reused = column.reused ? durationText(column.reused[row]) : "";
    if (reused) pairs.push(["took its ports after", `${reused} of TIME_WAIT`]);
    const list = make("dl", {}, ...pairs.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))));
    const id = column.id[row];
    const more = make("p");
    if (ladders.has(id)) {
      const link = make("a", { href: "#", textContent: "Segment by segment" });
      link.dataset.openLadder = id;
      more.append(link);
    } else more.append("Segment by segment: ", make("code", { textContent: `ctrack explain CAPTURE --flow ${id}` }));
    const cell = make("td", {}, list, more);
    cell.colSpan = heads.length;
    return make("tr", { className: "detail" }, cell);
  }

  /** Show a connection with all that is known of it; the filter makes way if it hides it. */
  function show(id) {
    const row = place.get(id);
    if (row === undefined) return false;
    if (!shown.includes(row)) {
      document.getElementById("filter").value = "";
      document.getElementById("behind").value = "";
      select();
    }
    open = row;
    page = Math.floor(shown.indexOf(row) / PAGE);
    render();
    const element = document.getElementById(`connection-${id}`);
    element.scrollIntoView({ block: "center" });
    element.querySelector("a").focus({ preventScroll: true });
    return true;
  }

  /** Open or close the row of a connection where it stands. */
  function toggle(id) {
    const row = place.get(id);
    open = open === row ? null : row;
    render();
    document.querySelector(`#connection-${id} a`)?.focus({ preventScroll: true });
  }

  function narrow({ text = "", finding = "" }) {
    document.getElementById("filter").value = text;
    document.getElementById("behind").value = finding;
    select();
    document.getElementById("table-controls").scrollIntoView();
  }

  for (const head of heads) {
    const button = make("button", { type: "button", className: "sort", textContent: head.textContent, title: `Sort by ${head.textContent}` });
    button.addEventListener("click", () => {
      const numeric = COLUMNS[head.dataset.key][2] === "number" && head.dataset.key !== "id" && head.dataset.key !== "start";
      sorted = { key: head.dataset.key, down: sorted.key === head.dataset.key ? !sorted.down : numeric };
      page = 0;
      order();
    });
    head.replaceChildren(button);
  }
  const behind = document.getElementById("behind");
  behind.append(make("option", { value: "", textContent: "anything" }));
  DATA.findings.forEach((finding, at) => behind.append(make("option", { value: at, textContent: finding.name })));
  behind.parentElement.hidden = !DATA.findings.length;
  behind.addEventListener("change", select);
  document.getElementById("filter").addEventListener("input", select);
  render();
  return { show, toggle, narrow };
})();

"use strict";
/* States over time, of all connections (two charts, that zoom together) or of one service or host. uPlot draws them. */

const charts = (() => {
  const [whole] = DATA.series;
  if (!whole || !document.getElementById("charts")) return { redraw() {}, zoomTo() {} };
  const FIGURES = ["chart-1", "chart-2"];
  const HEIGHT = 240;
  const start = DATA.origin + whole.first;
  const end = start + Math.max(whole.steps - 1, 1) * whole.step;
  const plots = new Map();
  let group = whole;
  let range = [start, end];
  let moving = false;

  /** A colour of the style sheet as the canvas needs it: resolved for the theme. */
  function color(name) {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  /** The instants of the group's series: each step, or of reduced ones (report/packed.py) two for each stretch. */
  function instants(length) {
    const { first, step, steps } = group;
    const times = new Float64Array(length);
    const stretches = length / 2;
    for (let i = 0; i < length; i++) {
      let at = i;
      if (length < steps) {
        const stretch = Math.floor(i / 2);
        const from = Math.floor((stretch * steps) / stretches);
        const to = Math.floor(((stretch + 1) * steps) / stretches);
        at = i % 2 ? (from + to) / 2 : from;
      }
      times[i] = DATA.origin + first + at * step;
    }
    return times;
  }

  /** Where a finding lies; at least two pixels, so that an instant is seen too. */
  function span(plot, finding) {
    const left = plot.valToPos(DATA.origin + finding.first, "x", true);
    const right = plot.valToPos(DATA.origin + finding.last, "x", true);
    return [left, Math.max(right - left, 2)];
  }

  const LANE = 14;
  const lanes = Math.min(DATA.findings.length, 8);

  /** Mark the findings above the plot, each with its number; and behind it, those that are not most of what is seen. */
  function mark(plot) {
    const { ctx, bbox } = plot;
    const unit = devicePixelRatio;
    const above = lanes * LANE * unit;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top - above, bbox.width, bbox.height + above);
    ctx.clip();
    ctx.font = `${11 * unit}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    DATA.findings.forEach((finding, at) => {
      const [left, width] = span(plot, finding);
      const top = bbox.top - above + (at % 8) * LANE * unit;
      ctx.fillStyle = color(finding.severity);
      ctx.globalAlpha = 0.1;
      if (width < bbox.width / 2) ctx.fillRect(left, bbox.top, width, bbox.height);
      ctx.globalAlpha = 0.2;
      ctx.fillRect(left, top, width, (LANE - 2) * unit);
      ctx.globalAlpha = 1;
      ctx.fillRect(left, top, 2 * unit, (LANE - 2) * unit);
      const beside = 5 + 18 * Math.floor(at / 8); // of those that share a lane, the later ones stand further right
      ctx.fillText(String(at + 1), Math.max(left, bbox.left) + beside * unit, top + (LANE / 2 - 0.5) * unit);
    });
    ctx.restore();
  }

  function zoom(from, to) {
    const least = Math.max(whole.step * 2, 0.02);
    const wide = Math.min(Math.max(to - from, least), end - start);
    from = Math.min(Math.max(from, start), end - wide);
    range = [from, from + wide];
    moving = true;
    for (const plot of plots.values()) plot.setScale("x", { min: range[0], max: range[1] });
    moving = false;
    document.getElementById("zoom-out").disabled = range[0] <= start && range[1] >= end;
  }

  function draw(id, ends) {
    const figure = document.getElementById(id);
    plots.get(id)?.destroy();
    plots.delete(id);
    figure.replaceChildren();
    figure.hidden = !ends;
    if (!ends) return;
    const names = Object.keys(ends.states);
    if (!names.length) {
      figure.append(make("p", { className: "faint", textContent: `${ends.title}: none was in any of these states.` }));
      return;
    }
    figure.setAttribute("aria-label", `Chart: ${ends.title}, ${group.name}, by state over time: ${names.join(", ")}`);
    const columns = names.map((name) => unpack(ends.states[name]));
    const axis = { stroke: () => color("faint"), grid: { stroke: () => color("line"), width: 1 }, ticks: { stroke: () => color("line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const clock = (seconds) => (seconds === null ? "" : clockText(seconds - DATA.origin, { digits: whole.step < 1 ? 2 : 0 }));
    const plot = new uPlot(
      {
        title: ends.title,
        width: figure.clientWidth,
        height: HEIGHT + lanes * LANE,
        padding: [lanes * LANE + 6, null, null, null],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        scales: { x: { min: range[0], max: range[1] }, y: { range: (_, __, most) => [0, Math.max(most * 1.05, 1)] } },
        axes: [
          { ...axis, space: DATA.epoch ? 110 : 80, values: ticks },
          { ...axis, size: 64, incrs: [1, 2, 5, ...[1, 2, 3, 4, 5, 6, 7, 8].flatMap((n) => [1, 2, 5].map((m) => m * 10 ** n))], values: (_, splits) => splits.map(count) },
        ],
        series: [
          { label: DATA.epoch ? "time" : "UTC", value: (_, seconds) => clock(seconds) },
          ...names.map((name) => ({ label: name, stroke: () => color(name), width: 1.5, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }), value: (_, number) => (number === null ? "" : count(number)) })),
        ],
        cursor: { sync: { key: "states" }, drag: { x: true, y: false }, points: { size: 6 } },
        hooks: {
          drawAxes: [mark],
          setScale: [
            (changed, key) => {
              if (key === "x" && !moving && changed.status) zoom(changed.scales.x.min, changed.scales.x.max);
            },
          ],
        },
      },
      [instants(columns[0].length), ...columns],
      figure,
    );
    plots.set(id, plot);
  }

  /** Ticks as the time of day in UTC, as fine as they are apart, with the date where a day begins; or unix seconds. */
  function ticks(_plot, splits, _axis, _space, apart) {
    return splits.map((seconds, at) => {
      const text = clockText(seconds - DATA.origin, { date: !DATA.epoch, digits: apart < 0.01 ? 3 : apart < 1 ? 2 : 0 });
      if (DATA.epoch) return text;
      const [date, time] = text.split(" ");
      const clock = apart < 60 ? time : time.slice(0, 5);
      const first = at === 0 || date !== clockText(splits[at - 1] - DATA.origin, { date: true, digits: 0 }).slice(0, 10);
      return first ? `${clock}\n${date}` : clock;
    });
  }

  function redraw() {
    FIGURES.forEach((id, at) => draw(id, group.ends[at]));
    zoom(...range);
  }

  function key(event) {
    const [from, to] = range;
    const wide = to - from;
    const moves = {
      "+": [from + wide / 4, to - wide / 4],
      "=": [from + wide / 4, to - wide / 4],
      "-": [from - wide / 2, to + wide / 2],
      ArrowLeft: [from - wide / 4, to - wide / 4],
      ArrowRight: [from + wide / 4, to + wide / 4],
      0: [start, end],
    };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    zoom(...moves[event.key]);
  }

  const select = document.getElementById("group");
  let list = select;
  DATA.series.forEach((each, at) => {
    if (each.kind && list.label !== each.kind) select.append((list = make("optgroup", { label: each.kind })));
    list.append(make("option", { value: at, textContent: each.name }));
  });
  select.parentElement.hidden = DATA.series.length < 2;
  select.addEventListener("change", () => {
    group = DATA.series[select.value];
    redraw();
  });
  const marks = document.getElementById("marks");
  DATA.findings.slice(0, 12).forEach((finding) => {
    const button = make("button", { type: "button", className: finding.severity, textContent: finding.name, title: `Zoom to: ${finding.name}` });
    button.addEventListener("click", () => zoomTo(finding));
    marks.append(button);
  });
  document.getElementById("zoom-out").addEventListener("click", () => zoom(start, end));
  for (const id of FIGURES) document.getElementById(id).addEventListener("keydown", key);

  function zoomTo(finding) {
    const room = Math.max((finding.last - finding.first) * 0.2, whole.step * 5);
    const at = DATA.series.findIndex((each) => each.name === finding.subject);
    if (at > 0 && select.value !== String(at)) {
      select.value = at;
      group = DATA.series[at];
      redraw();
    }
    zoom(DATA.origin + finding.first - room, DATA.origin + finding.last + room);
  }

  let width = 0;
  new ResizeObserver(() => {
    const figure = document.getElementById("chart-1");
    if (figure.clientWidth && figure.clientWidth !== width) {
      width = figure.clientWidth;
      for (const plot of plots.values()) plot.setSize({ width, height: HEIGHT + lanes * LANE });
    }
  }).observe(document.getElementById("charts"));
  return { redraw, zoomTo, range: () => range };
})();

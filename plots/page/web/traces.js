// The power of one repeat over time. Traces lie packed in parts; a part is unpacked when one of its traces is chosen.
const PHASES = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#b8a800"];

jt.widgets.traces = async (host, data) => {
  const { cells, entries } = data;
  const ofCell = new Map();
  entries.forEach(([cell], index) => ofCell.set(cell, [...(ofCell.get(cell) || []), index]));
  let at = 0;
  let trace = null;

  const cellChoice = jt.el(
    "select",
    { change: (event) => choose(ofCell.get(Number(event.target.value))[0]) },
    ...cells.map((name, index) => jt.option(index, name)),
  );
  const repeatChoice = jt.el("select", { change: (event) => choose(Number(event.target.value)) });
  const step = (by) => choose(Math.max(0, Math.min(entries.length - 1, at + by)));
  const back = jt.button("Previous trace", () => step(-1));
  const forth = jt.button("Next trace", () => step(1));
  const facts = jt.el("p", { class: "muted", role: "status" });
  const key = jt.el("div");

  const decoded = ({ from, step: size, d }) => {
    let sum = 0;
    return d.map((change) => from + size * (sum += change));
  };
  const highestInWindow = (x, y) => {
    const { t0_s: from, t1_s: to } = trace.moments;
    if (from === null || to === null) return null;
    const inside = y.filter((_, index) => x[index] >= from && x[index] <= to);
    return inside.length ? Math.max(...inside) : null;
  };

  const names = () => [...new Set(trace.phases.map(([name]) => name))];
  const labels = (theme) =>
    names().map((name) => {
      const longest = (a, b) => (b[2] - b[1] > a[2] - a[1] ? b : a);
      const [, t0, t1] = trace.phases.filter((span) => span[0] === name).reduce(longest);
      return {
        x: (t0 + t1) / 2,
        y: 0.94,
        xref: "x",
        yref: "paper",
        yanchor: "top",
        text: jt.plain(name),
        showarrow: false,
        font: { size: 12, color: theme.ink },
      };
    });
  const spans = (theme) => {
    const { quiet_from_s: from, t0_s: start, t1_s: end, quiet_until_s: until } = trace.moments;
    const band = (x0, x1, colour, opacity) =>
      x0 === null || x1 === null || x1 <= x0 ? [] : [jt.band(x0, x1, colour, opacity)];
    const edge = (x) => (x === null ? [] : [jt.upright(x, { color: theme.accent, width: 1 })]);
    const watts = trace.idle_power_w;
    const level = { type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: watts, y1: watts };
    const strips = trace.phases.map(([name, t0, t1]) => ({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: t0,
      x1: t1,
      y0: 0.95,
      y1: 1,
      fillcolor: PHASES[names().indexOf(name) % PHASES.length],
      line: { width: 0 },
      name,
    }));
    return [
      ...strips,
      ...band(from, start, theme.muted, 0.22),
      ...band(end, until, theme.muted, 0.22),
      ...band(start, end, theme.accent, 0.14),
      ...edge(start),
      ...edge(end),
      ...(watts === null ? [] : [{ ...level, line: { color: theme.edge, width: 2, dash: "dash" } }]),
    ];
  };
  const draw = (theme) => {
    const top = Math.max(...trace.y, trace.idle_power_w ?? 0);
    const low = Math.min(0, ...trace.y);
    const from = trace.x[0];
    const to = trace.x[trace.x.length - 1];
    return {
      data: [
        {
          x: trace.x,
          y: trace.y,
          type: "scatter",
          mode: "lines",
          line: { color: theme.ink, width: 1.3, shape: trace.counter ? "vh" : "linear" },
          hovertemplate: "%{x:.2f} s, %{y:.4~g} W<extra></extra>",
        },
      ],
      layout: {
        xaxis: { title: { text: "time from the start of the work, s" }, range: [from, to] },
        yaxis: { title: { text: "power, W" }, range: [low * 1.05, top * (trace.phases.length ? 1.2 : 1.08) || 1] },
        shapes: spans(theme),
        annotations: labels(theme),
      },
    };
  };
  const where = (x) => {
    const { quiet_from_s: from, t0_s: start, t1_s: end, quiet_until_s: until } = trace.moments;
    if (start === null || end === null) return "";
    if (x >= start && x <= end) return ", in the window";
    return (from !== null && x >= from && x < start) || (until !== null && x > end && x <= until) ? ", in a guard band" : "";
  };
  const points = () =>
    trace.x.map((x, index) => ({
      curve: 0,
      index,
      get text() {
        return `${jt.number(x, 2)} s: ${jt.figure(trace.y[index])} W${where(x)}`;
      },
    }));
  const phases = () =>
    trace.phases.slice(0, 8).map(([name, t0, t1]) => `${name} ${jt.number(t0, 2)} to ${jt.number(t1, 2)} s`).join(", ");
  const joules = (name, value, u) => (value === null ? null : `${name} ${jt.figure(value)}${u ? ` ± ${jt.figure(u, 2)}` : ""} J`);
  const describe = () => {
    const { t0_s: start, t1_s: end } = trace.moments;
    const peak = highestInWindow(trace.x, trace.y);
    const each = trace.executions > 1 ? `, ${trace.executions} executions` : "";
    const energies = [joules("gross", trace.energy_gross_j, trace.energy_u_j), joules("net", trace.energy_net_j)].filter(Boolean);
    return [
      start === null || end === null ? "The file does not say where its window is." : `Window ${jt.number(end - start, 2)} s${each}.`,
      trace.phases.length ? `Phases: ${phases()}${trace.phases.length > 8 ? ", ..." : ""}.` : null,
      energies.length ? `Energy of one execution: ${energies.join(", ")}.` : "No energy.",
      trace.idle_power_w === null ? "No idle baseline." : `Idle ${jt.figure(trace.idle_power_w)} W.`,
      peak === null ? null : `Highest in the window ${jt.figure(peak)} W.`,
      `${trace.grade ? `Grade ${trace.grade}` : "No grade"}${trace.flags.length ? `: ${trace.flags.join(", ")}` : ""}.`,
      trace.status === "ok" ? null : `The repeat is ${trace.status}.`,
      trace.source ? `Source ${trace.source}${trace.counter ? ", a counter: power between its updates" : ""}.` : null,
      trace.x.length < trace.samples
        ? `${trace.x.length} of ${trace.samples} samples are drawn, the lowest and the highest of every stretch.`
        : `${trace.samples} samples.`,
    ]
      .filter(Boolean)
      .join(" ");
  };
  const marks = () => [
    ["line", "power"],
    ...(trace.moments.t0_s !== null ? [["window", "window"]] : []),
    ...(trace.moments.quiet_from_s !== null || trace.moments.quiet_until_s !== null ? [["guard", "guard bands"]] : []),
    ...(trace.idle_power_w !== null ? [["idle", `idle baseline, ${jt.figure(trace.idle_power_w, 3)} W`]] : []),
  ];

  const show = (index, chosen) => {
    at = index;
    trace = { ...chosen, x: decoded(chosen.t), y: decoded(chosen.p) };
    const [cell, repeat] = entries[index];
    cellChoice.value = String(cell);
    const mates = ofCell.get(cell);
    repeatChoice.replaceChildren(...mates.map((other) => jt.option(other, String(entries[other][1]))));
    repeatChoice.value = String(index);
    repeatChoice.disabled = mates.length === 1;
    back.disabled = index === 0;
    forth.disabled = index === entries.length - 1;
    facts.textContent = describe();
    key.replaceChildren(jt.key(marks()));
    return `${cells[cell]}, repeat ${repeat}`;
  };
  const label = "Power over time of the chosen repeat";
  const { title, canvas, choose } = jt.series(data, { label, draw, points, show });
  const choices = [jt.labelled("Cell", cellChoice, "wide"), jt.labelled("Repeat", repeatChoice)];
  host.append(jt.el("div", { class: "controls" }, ...choices, back, forth), title, key, canvas, facts);
  await choose(0);
};

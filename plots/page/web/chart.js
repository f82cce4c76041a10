// A plotly chart that the mouse, a finger and the keyboard alone can read: buttons, arrow keys, a line that is read out.
//
// jt.chart(host, { label, draw, points, zoom }) returns { redraw }.
//   draw(theme) gives plotly's { data, layout }; points() the [{ curve, index, text }] that the arrow keys go through,
//   in reading order; zoom is "x" or "xy".
jt.chart = async (host, { label, draw, points, zoom = "x" }) => {
  const Plotly = await jt.plotly();
  const help = jt.el("p", { class: "muted", id: jt.id("help") }, "Arrow keys read the points, + and − zoom, 0 shows all.");
  const reading = jt.el("p", { class: "reading", "aria-live": "polite" });
  const plot = jt.el("div", {
    class: "plot",
    tabindex: 0,
    role: "application",
    "aria-roledescription": "chart",
    "aria-label": label,
    "aria-describedby": help.id,
  });
  const tools = jt.el(
    "div",
    { class: "controls", role: "group", "aria-label": `Zoom: ${label}` },
    jt.button("Zoom in", () => scale(0.5)),
    jt.button("Zoom out", () => scale(2)),
    jt.button("Show all", () => showAll()),
  );
  host.append(plot, reading, tools, help);

  let at = -1;
  let whole = {};

  const axes = zoom === "xy" ? ["xaxis", "yaxis"] : ["xaxis"];
  const place = (axis, name) => {
    const point = points()[at];
    if (!point) return null;
    const trace = plot.data[point.curve];
    const value = Number(trace[name === "xaxis" ? "x" : "y"][point.index]);
    return axis.type === "log" ? Math.log10(value) : value;
  };
  const scale = (factor) => {
    const change = {};
    for (const name of axes) {
      const axis = plot._fullLayout[name];
      const [from, to] = axis.range;
      const centre = place(axis, name) ?? (from + to) / 2;
      const half = (Math.abs(to - from) * factor) / 2;
      change[`${name}.range`] = [centre - half, centre + half];
    }
    return Plotly.relayout(plot, change).then(pointOut);
  };
  const showAll = () => Plotly.relayout(plot, { ...whole }).then(pointOut);
  const pointOut = () => {
    const point = points()[at];
    if (point) Plotly.Fx.hover(plot, [{ curveNumber: point.curve, pointNumber: point.index }]);
  };
  const go = (next) => {
    const all = points();
    if (!all.length) return;
    at = Math.max(0, Math.min(all.length - 1, next));
    reading.textContent = all[at].text;
    // what lies outside of the view is brought into it
    const change = {};
    for (const name of axes) {
      const axis = plot._fullLayout[name];
      const [from, to] = axis.range;
      const value = place(axis, name);
      if (value < Math.min(from, to) || value > Math.max(from, to)) {
        change[`${name}.range`] = [value - (to - from) / 2, value + (to - from) / 2];
      }
    }
    if (Object.keys(change).length) Plotly.relayout(plot, change).then(pointOut);
    else pointOut();
  };
  const tenth = () => Math.max(1, Math.round(points().length / 10));
  const [next, last, closer, farther] = [() => go(at + 1), () => go(at - 1), () => scale(0.5), () => scale(2)];
  const keys = {
    ...{ ArrowRight: next, ArrowDown: next, ArrowLeft: last, ArrowUp: last },
    ...{ PageDown: () => go(at + tenth()), PageUp: () => go(at - tenth()) },
    ...{ Home: () => go(0), End: () => go(points().length - 1) },
    ...{ "+": closer, "=": closer, "-": farther, "−": farther, 0: showAll },
  };
  plot.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  const redraw = async () => {
    const theme = jt.theme();
    const { data, layout } = draw(theme);
    const axis = { gridcolor: theme.grid, linecolor: theme.muted, zeroline: false, tickcolor: theme.muted };
    const merged = {
      showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: theme.ink, family: "system-ui, sans-serif", size: 13 },
      hoverlabel: { bgcolor: theme.paper, bordercolor: theme.muted, font: { color: theme.ink } },
      hovermode: "closest",
      // a finger that moves over the chart scrolls the page
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      margin: { l: 56, r: 16, t: 16, b: 48 },
      ...layout,
      xaxis: { ...axis, automargin: true, ...layout.xaxis },
      yaxis: { ...axis, automargin: true, fixedrange: zoom === "x", ...layout.yaxis },
    };
    whole = Object.fromEntries(
      axes.map((name) =>
        merged[name].range ? [`${name}.range`, [...merged[name].range]] : [`${name}.autorange`, true],
      ),
    );
    at = -1;
    reading.textContent = "";
    await Plotly.react(plot, data, merged, { displayModeBar: false, responsive: true });
    plot.dataset.drawn = String(Number(plot.dataset.drawn || 0) + 1);
  };
  await redraw();
  plot.on("plotly_click", (event) => {
    const [hit] = event.points;
    const found = points().findIndex((p) => p.curve === hit.curveNumber && p.index === hit.pointNumber);
    if (found >= 0) go(found);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  return { redraw };
};

// A line, or a band, across the height of a chart.
jt.upright = (x, line) => ({ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line });
jt.band = (x0, x1, fillcolor, opacity) => {
  const edges = { xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1 };
  return { type: "rect", ...edges, fillcolor, opacity, line: { width: 0 }, layer: "below" };
};

// The chart of one of many series, which lie packed in chunks: a chunk is unpacked when one of its series is chosen.
//
// jt.series({ block, perChunk }, { label, draw, points, show }) returns { title, canvas, choose }.
//   show(index, series) takes what was chosen, before draw and points are called; a button of a table chooses, too.
jt.series = ({ block, perChunk }, { show, ...options }) => {
  const title = jt.el("h3", { tabindex: -1 });
  const canvas = jt.el("div");
  let wanted = 0;
  let chart = null;
  const choose = async (index) => {
    wanted += 1;
    const mine = wanted;
    const chunk = await jt.data(`${block}-${Math.floor(index / perChunk)}`);
    if (mine !== wanted) return; // another was chosen meanwhile
    title.textContent = show(index, chunk[index % perChunk]);
    if (chart) await (await chart).redraw(); // a promise: the library may still be unpacking
    else await (chart = jt.chart(canvas, options));
    canvas.dataset.shown = String(index);
  };
  document.addEventListener("jt-action", async (event) => {
    await choose(event.detail.value);
    title.scrollIntoView({ block: "start" });
    title.focus();
  });
  return { title, canvas, choose };
};

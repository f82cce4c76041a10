// Accuracy against joules of one shift, with the Pareto front.
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "pentagon", "x", "triangle-left", "triangle-right"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const SHAPES = ["●", "■", "▲", "◆", "▼", "⬟", "✖", "◀", "▶"];

jt.widgets.pareto = async (host, data) => {
  const { arms, sizes, shifts, unit, factor } = data;
  const choice = jt.el("select", { change: () => redraw() }, ...shifts.map((one, index) => jt.option(index, one.label)));
  const ticks = arms.map((arm) => {
    const swatch = jt.el("span", { "aria-hidden": "true", class: "swatch" });
    swatch.style.background = arm.colour;
    return jt.tick(arm.name, () => redraw(), { checked: true }, swatch);
  });
  const spread = jt.tick("95 % intervals", () => redraw(), { checked: true });
  const key = sizes.length > 1 ? `Train size: ${sizes.map((size, at) => `${SHAPES[at % SHAPES.length]} ${size}`).join(", ")}.` : "";
  const canvas = jt.el("div");
  host.append(
    jt.el("h3", {}, data.title),
    jt.el("div", { class: "controls" }, jt.labelled("Shift", choice)),
    jt.el("fieldset", { class: "controls" }, jt.el("legend", {}, "Show"), ...ticks.map(({ label }) => label), spread.label),
    jt.el("p", { class: "muted" }, key),
    canvas,
    jt.el("p", { class: "muted" }, data.caption),
  );

  const shift = () => shifts[Number(choice.value)];
  const visible = () =>
    shift()
      .points.filter((point) => ticks[point.arm].box.checked)
      .sort((a, b) => a.energy_gross_j - b.energy_gross_j || a.accuracy - b.accuracy);
  const range = (lo, hi, scale, digits) =>
    lo === null || hi === null ? "" : ` [${jt.number(lo * scale, digits)}, ${jt.number(hi * scale, digits)}]`;
  const words = (point) =>
    `${arms[point.arm].name}${point.target ? " (target)" : ""}, ${sizes[point.size]}: ` +
    `${jt.figure(point.energy_gross_j / factor)} ${unit}, ${jt.number(100 * point.accuracy, 1)} %` +
    `${range(point.accuracy_lo, point.accuracy_hi, 100, 1)}${point.best ? ", on the Pareto front" : ""}`;
  const whisker = (point, value, lo, hi, scale) => ({
    up: point[hi] === null ? 0 : Math.max(0, point[hi] - point[value]) * scale,
    down: point[lo] === null ? 0 : Math.max(0, point[value] - point[lo]) * scale,
  });

  const draw = (theme) => {
    const points = visible();
    const x = points.map((point) => point.energy_gross_j / factor);
    const y = points.map((point) => 100 * point.accuracy);
    const front = (size) =>
      shift()
        .points.filter((point) => point.best && point.size === size)
        .sort((a, b) => a.energy_gross_j - b.energy_gross_j);
    const reach = (value, lo, hi, scale) => {
      const both = points.map((point) => whisker(point, value, lo, hi, scale));
      return {
        type: "data",
        symmetric: false,
        array: both.map((one) => one.up),
        arrayminus: both.map((one) => one.down),
        visible: spread.box.checked,
        color: theme.muted,
        thickness: 0.6,
        width: 2,
      };
    };
    const wide = Math.max(...x) > 20 * Math.min(...x);
    const shown = spread.box.checked;
    const ends = (value, end) => points.map((point) => (shown && point[end] !== null ? point[end] : point[value]));
    const joules = (end) => ends("energy_gross_j", `energy_gross_${end}_j`).map((value) => value / factor);
    const [low, high] = [100 * Math.max(0, Math.min(...ends("accuracy", "accuracy_lo"))), 100 * Math.min(1, Math.max(...ends("accuracy", "accuracy_hi")))];
    const room = Math.max(2, 0.08 * (high - low));
    return {
      data: [
        {
          x,
          y,
          mode: "markers",
          type: "scatter",
          error_x: reach("energy_gross_j", "energy_gross_lo_j", "energy_gross_hi_j", 1 / factor),
          error_y: reach("accuracy", "accuracy_lo", "accuracy_hi", 100),
          marker: {
            size: points.map((point) => (point.best ? 13 : 11)),
            symbol: points.map((point) => SYMBOLS[point.size % SYMBOLS.length]),
            color: points.map((point) => arms[point.arm].colour),
            opacity: points.map((point) => (point.best ? 1 : 0.6)),
            line: { color: theme.ink, width: points.map((point) => (point.best ? 1.5 : 0.75)) },
          },
          text: points.map((point) => jt.plain(words(point))),
          hovertemplate: "%{text}<extra></extra>",
        },
        ...sizes.map((_, size) => ({
          x: front(size).map((point) => point.energy_gross_j / factor),
          y: front(size).map((point) => 100 * point.accuracy),
          mode: "lines",
          type: "scatter",
          line: { shape: "hv", color: theme.accent, width: 2, dash: DASHES[size % DASHES.length] },
          hoverinfo: "skip",
        })),
      ],
      layout: {
        xaxis: {
          title: { text: data.xLabel },
          ...(wide ? { type: "log" } : { type: "linear", ...(points.length ? { range: [Math.min(0, ...joules("lo")), 1.06 * Math.max(...joules("hi"))] } : {}) }),
        },
        yaxis: { title: { text: "accuracy, %" }, ...(points.length ? { range: [low - room, high + room] } : {}) },
      },
    };
  };
  let chart = null; // until the library is unpacked; the first drawing shows what was chosen by then
  const redraw = () => chart?.redraw();
  chart = await jt.chart(canvas, {
    label: data.title,
    draw,
    zoom: "xy",
    points: () => visible().map((point, index) => ({ curve: 0, index, text: words(point) })),
  });
};

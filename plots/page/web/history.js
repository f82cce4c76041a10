// A cell's figure on every night, with its level and the nights on which that changed.
jt.widgets.history = async (host, data) => {
  const { entries, perChunk, block, dates, runs } = data;
  const measures = [...new Set(entries.map(([measure]) => measure))];
  let at = data.first;
  let series = null;
  let chart = null;

  const measureChoice = jt.el(
    "select",
    { change: () => pickMeasure() },
    ...measures.map((name) => jt.option(name, name)),
  );
  const onlyChanged = jt.el("input", { type: "checkbox", change: () => list() });
  const cellChoice = jt.el("select", { change: (event) => choose(Number(event.target.value)) });
  const shown = () => [...cellChoice.options].map((option) => Number(option.value));
  const step = (by) => {
    const all = shown();
    choose(all[Math.max(0, Math.min(all.length - 1, all.indexOf(at) + by))]);
  };
  const back = jt.el("button", { type: "button", click: () => step(-1) }, "Previous cell");
  const forth = jt.el("button", { type: "button", click: () => step(1) }, "Next cell");
  const cellLabel = jt.labelled("Cell", cellChoice);
  cellLabel.className = "wide";
  const tick = jt.el("label", { class: "tick" }, onlyChanged, "only cells with a change");
  const title = jt.el("h3", { tabindex: -1 });
  const canvas = jt.el("div");
  const told = jt.el("ul");
  host.append(
    jt.el("div", { class: "controls" }, jt.labelled("Measure", measureChoice), cellLabel, tick, back, forth),
    title,
    canvas,
    jt.el(
      "ul",
      { class: "key" },
      jt.el("li", {}, jt.el("span", { class: "mark dot", "aria-hidden": "true" }), "a night"),
      jt.el("li", {}, jt.el("span", { class: "mark ring", "aria-hidden": "true" }), "an odd night, left out"),
      jt.el("li", {}, jt.el("span", { class: "mark level", "aria-hidden": "true" }), "level"),
      jt.el("li", {}, jt.el("span", { class: "mark step", "aria-hidden": "true" }), "a change begins"),
    ),
    jt.el("div", { role: "status" }, told),
  );

  const list = () => {
    const measure = measureChoice.value;
    const mine = entries.flatMap(([name, , changes], index) =>
      name === measure && (!onlyChanged.checked || changes || index === at) ? [index] : [],
    );
    cellChoice.replaceChildren(
      ...mine.map((index) => {
        const [, cell, changes] = entries[index];
        return jt.option(index, changes ? `${cell} (${changes} change${changes === 1 ? "" : "s"})` : cell);
      }),
    );
    cellChoice.value = String(at);
    const place = mine.indexOf(at);
    back.disabled = place <= 0;
    forth.disabled = place < 0 || place === mine.length - 1;
  };
  // the same cell in the other measure, where it is there
  const pickMeasure = () => {
    const measure = measureChoice.value;
    const cell = entries[at][1];
    const same = entries.findIndex(([name, label]) => name === measure && label === cell);
    choose(same >= 0 ? same : entries.findIndex(([name]) => name === measure));
  };

  const figure = (value) => `${jt.figure(value)} ${series.unit}`;
  const draw = (theme) => {
    const odd = new Set(series.odd);
    const nights = series.y.map((_, night) => night);
    const colour = { bad: "--bad", good: "--good", dim: "--muted" };
    const style = getComputedStyle(document.documentElement);
    const every = Math.max(1, Math.ceil(dates.length / (window.innerWidth < 640 ? 4 : 8)));
    const ticks = nights.filter((night) => night % every === 0);
    return {
      data: [
        {
          x: nights,
          y: series.y,
          type: "scatter",
          mode: "markers",
          marker: {
            size: 6,
            color: nights.map((night) => (odd.has(night) ? "rgba(0,0,0,0)" : theme.ink)),
            line: { width: 1.2, color: theme.ink },
            opacity: 0.75,
          },
          text: nights.map((night) => `${dates[night]}, run ${jt.plain(runs[night])}`),
          hovertemplate: `%{text}<br>%{y:.4~g} ${series.unit}<extra></extra>`,
        },
        {
          x: nights,
          y: series.level,
          type: "scatter",
          mode: "lines",
          line: { color: theme.accent, width: 2.5 },
          hoverinfo: "skip",
        },
      ],
      layout: {
        xaxis: {
          title: { text: "night" },
          range: [-0.5, dates.length - 0.5],
          tickvals: ticks,
          ticktext: ticks.map((night) => dates[night]),
        },
        yaxis: { title: { text: `${measureChoice.value}, ${series.unit}` } },
        shapes: series.changes.flatMap((change) =>
          [change.night, change.until].flatMap((night, end) =>
            night === null
              ? []
              : [
                  {
                    type: "line",
                    xref: "x",
                    yref: "paper",
                    x0: night - 0.5,
                    x1: night - 0.5,
                    y0: 0,
                    y1: 1,
                    line: {
                      color: style.getPropertyValue(colour[change.tone]).trim(),
                      width: 2,
                      dash: end ? "dot" : "dash",
                    },
                  },
                ],
          ),
        ),
      },
    };
  };
  const points = () => {
    const odd = new Set(series.odd);
    const begins = new Set(series.changes.map((change) => change.night));
    const ends = new Set(series.changes.map((change) => change.until));
    return series.y.flatMap((value, night) =>
      value === null
        ? []
        : [
            {
              curve: 0,
              index: night,
              get text() {
                const level = series.level[night] === null ? "" : `, level ${figure(series.level[night])}`;
                const mark = [
                  odd.has(night) ? ", odd, left out" : "",
                  begins.has(night) ? ", a change begins" : "",
                  ends.has(night) ? ", a change ends" : "",
                ].join("");
                return `${dates[night]}, run ${runs[night]}: ${figure(value)}${level}${mark}`;
              },
            },
          ],
    );
  };

  let wanted = 0;
  const choose = async (index) => {
    at = index;
    wanted += 1;
    const mine = wanted;
    const part = await jt.data(`${block}-${Math.floor(index / perChunk)}`);
    if (mine !== wanted) return; // another was chosen meanwhile
    series = part[index % perChunk];
    const [measure, cell] = entries[index];
    measureChoice.value = measure;
    list();
    title.textContent = `${cell}: ${measure}`;
    const sentences = series.changes.map((change) => jt.el("li", { class: change.tone }, change.text));
    told.replaceChildren(...(sentences.length ? sentences : [jt.el("li", {}, "No change is proven in this series.")]));
    if (chart) await (await chart).redraw(); // a promise: the library may still be unpacking
    else await (chart = jt.chart(canvas, { label: "The chosen cell on every night", draw, points, zoom: "x" }));
    canvas.dataset.shown = String(index);
  };
  document.addEventListener("jt-action", async (event) => {
    await choose(event.detail.value);
    title.scrollIntoView({ block: "start" });
    title.focus();
  });
  await choose(at);
};

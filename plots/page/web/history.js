// A condition's figure on every night, with its level and the nights on which that changed.
jt.widgets.history = async (host, data) => {
  const { entries, dates, runs } = data;
  const measures = [...new Set(entries.map(([measure]) => measure))];
  let at = data.first;
  let series = null;

  const measureChoice = jt.el("select", { change: () => pickMeasure() }, ...measures.map((name) => jt.option(name, name)));
  const onlyChanged = jt.tick("only conditions with a change", () => list());
  const choice = jt.el("select", { change: (event) => choose(Number(event.target.value)) });
  const step = (by) => {
    const all = [...choice.options].map((option) => Number(option.value));
    choose(all[Math.max(0, Math.min(all.length - 1, all.indexOf(at) + by))]);
  };
  const back = jt.button("Previous condition", () => step(-1));
  const forth = jt.button("Next condition", () => step(1));
  const changeList = jt.el("ul");

  const list = () => {
    const measure = measureChoice.value;
    const mine = entries.flatMap(([name, , changes], index) =>
      name === measure && (!onlyChanged.box.checked || changes || index === at) ? [index] : [],
    );
    choice.replaceChildren(
      ...mine.map((index) => {
        const [, condition, changes] = entries[index];
        return jt.option(index, changes ? `${condition} (${changes} change${changes === 1 ? "" : "s"})` : condition);
      }),
    );
    choice.value = String(at);
    const place = mine.indexOf(at);
    back.disabled = place <= 0;
    forth.disabled = place < 0 || place === mine.length - 1;
  };
  // the same condition in the other measure, where it is there
  const pickMeasure = () => {
    const measure = measureChoice.value;
    const condition = entries[at][1];
    const same = entries.findIndex(([name, label]) => name === measure && label === condition);
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
    const fill = nights.map((night) => (odd.has(night) ? "rgba(0,0,0,0)" : theme.ink));
    return {
      data: [
        {
          ...{ x: nights, y: series.y, type: "scatter", mode: "markers" },
          marker: { size: 6, color: fill, line: { width: 1.2, color: theme.ink }, opacity: 0.75 },
          text: nights.map((night) => `${dates[night]}, run ${jt.plain(runs[night])}`),
          hovertemplate: `%{text}<br>%{y:.4~g} ${series.unit}<extra></extra>`,
        },
        {
          ...{ x: nights, y: series.level, type: "scatter", mode: "lines" },
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
        shapes: series.changes.flatMap(({ night: begin, until, tone }) => {
          const line = { color: style.getPropertyValue(colour[tone]).trim(), width: 2 };
          const ends = until === null ? [] : [jt.upright(until - 0.5, { ...line, dash: "dot" })];
          return [jt.upright(begin - 0.5, { ...line, dash: "dash" }), ...ends];
        }),
      },
    };
  };
  const points = () => {
    const odd = new Set(series.odd);
    const begins = new Set(series.changes.map((change) => change.night));
    const ends = new Set(series.changes.map((change) => change.until));
    const text = (value, night) => {
      const level = series.level[night] === null ? "" : `, level ${figure(series.level[night])}`;
      const marks = [odd, begins, ends].map((nights) => nights.has(night));
      const words = [", odd, left out", ", a change begins", ", a change ends"].filter((_, mark) => marks[mark]);
      return `${dates[night]}, run ${runs[night]}: ${figure(value)}${level}${words.join("")}`;
    };
    return series.y.flatMap((value, night) =>
      value === null ? [] : [{ curve: 0, index: night, get text() { return text(value, night); } }],
    );
  };

  const show = (index, chosen) => {
    at = index;
    series = chosen;
    const [measure, condition] = entries[index];
    measureChoice.value = measure;
    list();
    const sentences = series.changes.map((change) => jt.el("li", { class: change.tone }, change.text));
    changeList.replaceChildren(...(sentences.length ? sentences : [jt.el("li", {}, "No change is proven in this series.")]));
    return `${condition}: ${measure}`;
  };
  const label = "The chosen condition on every night";
  const { title, canvas, choose } = jt.series(data, { label, draw, points, show });
  const choices = [jt.labelled("Measure", measureChoice), jt.labelled("Condition", choice, "wide"), onlyChanged.label];
  const marks = { dot: "a night", ring: "an odd night, left out", level: "level", step: "a change begins" };
  host.append(
    jt.el("div", { class: "controls" }, ...choices, back, forth),
    title,
    canvas,
    jt.key(Object.entries(marks)),
    jt.el("div", { role: "status" }, changeList),
  );
  await choose(at);
};

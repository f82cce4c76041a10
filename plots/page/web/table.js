// A table that can be searched, filtered and sorted; only a page of its rows is in the document.
//
// data: { label, sort, columns: [{ heading, kind, values, digits, texts, choice, hidden, about, tones }] }, values by column;
//   sort is the column to begin with, or null; a hidden column only filters.
//   kind: text, number, list (of words) or action: a button, which sends "jt-action" with { value } up the document.
const PAGE_ROWS = 25;
const collator = new Intl.Collator("en", { numeric: true });

jt.widgets.table = async (host, data) => {
  const { columns } = data;
  const total = columns.length ? columns[0].values.length : 0;
  const shown = columns.map((column) => column.values.map((value, row) => display(column, value, row)));
  const long = shown.map((texts) => texts.some((text) => text.length > 40));
  const short = shown.map((texts) => texts.every((text) => text.length <= 16)); // a date stays on one line
  const haystack = Array.from({ length: total }, (_, row) =>
    columns
      .map((column, index) => (column.kind === "text" || column.kind === "list" ? shown[index][row] : ""))
      .join("\n")
      .toLowerCase(),
  );
  let order = Array.from({ length: total }, (_, row) => row);
  let sorted = { column: -1, down: false };
  let page = 0;

  const search = jt.el("input", { type: "search", input: () => renew() });
  const selects = columns.map((column) => {
    if (!column.choice) return null;
    const words = new Set(column.values.flat().filter((value) => value !== null && value !== ""));
    const options = [...words].sort((a, b) => collator.compare(a, b)).map((word) => jt.option(String(word), String(word)));
    return jt.el("select", { change: () => renew() }, jt.option("", "all"), ...options);
  });
  const clear = jt.button("Clear filters", () => reset());
  const controls = jt.el(
    "div",
    { class: "controls", role: "search", "aria-label": `Filter: ${data.label}` },
    jt.labelled("Search", search),
    ...selects.map((select, index) => select && jt.labelled(columns[index].heading, select)),
    clear,
  );
  const status = jt.el("p", { class: "muted", role: "status" });
  const body = jt.el("tbody");
  const heads = columns.map((column, index) => {
    if (column.hidden) return null;
    const numeric = column.kind === "number" ? "figure" : null;
    if (column.kind === "action") return jt.el("th", { scope: "col" }, column.heading);
    const arrow = jt.el("span", { "aria-hidden": "true", class: "arrow" });
    const button = jt.el("button", { type: "button", title: column.about, click: () => sortBy(index) }, column.heading, arrow);
    return jt.el("th", { scope: "col", class: numeric, "aria-sort": "none" }, button);
  });
  const table = jt.el("table", {}, jt.el("thead", {}, jt.el("tr", {}, ...heads.filter(Boolean))), body);
  const frame = jt.el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": data.label }, table);
  const back = jt.button("Previous rows", () => turn(-1));
  const forth = jt.button("Next rows", () => turn(1));
  const pager = jt.el("div", { class: "controls", role: "group", "aria-label": `Pages: ${data.label}` }, back, forth);
  host.append(controls, status, frame, pager);

  const matches = (row, words, wanted) =>
    words.every((word) => haystack[row].includes(word)) &&
    wanted.every(([index, word]) => {
      const value = columns[index].values[row];
      return Array.isArray(value) ? value.includes(word) : String(value) === word;
    });

  const renew = (keepPage = false) => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.flatMap((select, index) => (select && select.value ? [[index, select.value]] : []));
    const rows = order.filter((row) => matches(row, words, wanted));
    const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
    page = keepPage ? Math.max(0, Math.min(page, pages - 1)) : 0;
    const first = page * PAGE_ROWS;
    const part = rows.slice(first, first + PAGE_ROWS);
    body.replaceChildren(...part.map(line));
    const range = part.length ? `${first + 1} to ${first + part.length} of ${rows.length}` : "0";
    const all = rows.length < total ? ` (${total} without filter)` : "";
    status.textContent = part.length ? `Rows ${range}${all}` : `No row matches; there are ${total}.`;
    pager.hidden = pages === 1;
    back.disabled = page === 0;
    forth.disabled = page === pages - 1;
    clear.disabled = !words.length && !wanted.length;
  };
  const line = (row) =>
    jt.el(
      "tr",
      {},
      ...columns.map((column, index) => {
        if (column.hidden) return null;
        const value = column.values[row];
        if (column.kind === "action") {
          if (value === null) return jt.el("td", {}, "–");
          const act = () => host.dispatchEvent(new CustomEvent("jt-action", { bubbles: true, detail: { value } }));
          const name = `${column.about} ${shown[0][row]}`;
          return jt.el("td", {}, jt.el("button", { type: "button", "aria-label": name, click: act }, column.heading));
        }
        if (index === 0) return jt.el("th", { scope: "row" }, ...breakable(shown[index][row]));
        const tone = (column.tones || {})[value] || "";
        const kind = column.kind === "number" ? "figure" : long[index] ? "words" : short[index] ? "short" : "";
        return jt.el("td", { class: `${kind} ${tone}`.trim() || null }, shown[index][row]);
      }),
    );
  const sortBy = (index) => {
    sorted = { column: index, down: sorted.column === index && !sorted.down };
    const { values, kind } = columns[index];
    const sign = sorted.down ? -1 : 1;
    const blank = (value) => value === null || value === "" || (Array.isArray(value) && !value.length);
    const compare = kind === "number" ? (a, b) => a - b : (a, b) => collator.compare(String(a), String(b));
    order = order.slice().sort((a, b) => {
      const [left, right] = [values[a], values[b]];
      if (blank(left) || blank(right)) return blank(left) - blank(right); // what is not known comes last either way
      return sign * compare(left, right) || a - b;
    });
    heads.forEach((head, at) => {
      if (!head || !head.hasAttribute("aria-sort")) return;
      const mine = at === index;
      head.setAttribute("aria-sort", mine ? (sorted.down ? "descending" : "ascending") : "none");
      head.querySelector(".arrow").textContent = mine ? (sorted.down ? " ▼" : " ▲") : "";
    });
    renew();
  };
  const turn = (step) => {
    page += step;
    renew(true);
    frame.scrollIntoView({ block: "nearest" });
    // a button that has just been disabled loses the focus; the table is where it belongs then
    if (back.disabled || forth.disabled) frame.focus();
  };
  const reset = () => {
    search.value = "";
    for (const select of selects) if (select) select.value = "";
    renew();
    search.focus();
  };
  if (data.sort === null) renew();
  else sortBy(data.sort);
};

// An id may be broken after its slashes where the screen is narrow.
const breakable = (text) => text.split(/(?<=\/)/).flatMap((part, index) => (index ? [jt.el("wbr"), part] : [part]));

const display = (column, value, row) => {
  if (column.texts) return column.texts[row];
  if (value === null || value === "") return "–";
  if (column.kind === "number") return jt.number(value, column.digits);
  if (column.kind === "list") return value.length ? value.join(", ") : "–";
  return String(value);
};

// Shared by all widgets: elements, packed data, plotly, colours. A widget is jt.widgets[KIND] = async (host, data) => ...
const jt = { widgets: {} };

// Texts become text nodes and attributes, never markup: names come from suites and records.
jt.el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

// Plotly reads a few tags and entities in its texts.
jt.plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

jt.number = (value, digits) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");

// So many significant digits, without an exponent where one can be spared.
jt.figure = (value, significant = 4) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(significant - 1).replace("-", "−");
  const digits = size === 0 ? 0 : Math.max(0, Math.min(6, significant - 1 - Math.floor(Math.log10(size))));
  return jt.number(value, digits);
};

jt.button = (text, click) => jt.el("button", { type: "button", click }, text);

jt.labelled = (text, control, name = null) => jt.el("label", { class: name }, jt.el("span", {}, text), control);

jt.tick = (text, change, { checked = false } = {}, ...marks) => {
  const box = jt.el("input", { type: "checkbox", checked, change });
  return { box, label: jt.el("label", { class: "tick" }, box, ...marks, text) };
};

jt.option = (value, text) => jt.el("option", { value }, text);

// A list of [class, text]: what the marks of a chart mean.
jt.key = (marks) =>
  jt.el("ul", { class: "key" }, ...marks.map(([name, text]) => jt.el("li", {}, jt.el("span", { class: `mark ${name}`, "aria-hidden": "true" }), text)));

const unpack = async (id) => {
  const text = atob(document.getElementById(`data-${id}`).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

const unpacked = new Map();
jt.data = (id) => {
  if (!unpacked.has(id)) unpacked.set(id, unpack(id).then(JSON.parse));
  return unpacked.get(id);
};

let plotly = null;
jt.plotly = () => {
  plotly ??= unpack("plotly").then((text) => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
    return window.Plotly;
  });
  return plotly;
};

jt.theme = () => {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "muted", "grid", "paper", "accent", "edge"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
};

let serial = 0;
jt.id = (stem) => `${stem}-${(serial += 1)}`;

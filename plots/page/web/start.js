// Starts every widget of the page. Where one cannot start, what the page shows without it stays, with the reason.
const start = async (host) => {
  const plain = host.querySelector("[data-plain]");
  try {
    const live = jt.el("div", { class: "live" });
    host.append(live);
    await jt.widgets[host.dataset.widget](live, await jt.data(host.dataset.block));
    if (plain) plain.hidden = true;
    host.dataset.ready = "";
  } catch (error) {
    const old = typeof DecompressionStream === "undefined";
    const why = old ? "this browser is too old for it" : error.message;
    host.append(jt.el("p", { class: "muted", role: "alert" }, `The interactive part could not start: ${why}.`));
    console.error(error);
  }
};
const hosts = [...document.querySelectorAll("[data-widget]")];
Promise.all(hosts.map(start)).then(() => {
  document.documentElement.dataset.ready = "";
});

"use strict";

// Charts: compiled Vega, its expressions interpreted, so that the policy can forbid eval.
const tip = document.getElementById("tip");

function showTip(_handler, event, _item, value) {
  tip.replaceChildren();
  tip.hidden = !value;
  if (!value) return;
  for (const [title, text] of Object.entries(value)) {
    const line = document.createElement("div");
    const name = document.createElement("span");
    const shown = document.createElement("bdi");
    name.textContent = title;
    shown.textContent = text;
    line.append(name, shown);
    tip.append(line);
  }
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const below = event.clientY + 18;
  const fits = below + tip.offsetHeight < document.documentElement.clientHeight;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 12, room))}px`;
  tip.style.top = `${fits ? below : event.clientY - tip.offsetHeight - 12}px`;
}

async function draw(id, spec) {
  const options = {
    mode: "vega", ast: true, renderer: "svg", actions: false, defaultStyle: false, tooltip: showTip,
  };
  const { view } = await vegaEmbed(`#${id}`, spec, options);
  document.querySelector(`.chooser[data-chart="${id}"]`)?.addEventListener("change", (event) => {
    view.signal("shown", event.target.value).runAsync();
  });
}

async function drawAll() {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  for (const [id, spec] of Object.entries(specs)) await draw(id, spec);
  document.documentElement.dataset.ready = "charts";
}

// Table: a click or Enter on a heading sorts; typing filters.
function prepareTable(table) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator(undefined, { numeric: true });

  function sortBy(heading) {
    const column = headings.indexOf(heading);
    const up = heading.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column];
    const order = heading.dataset.kind === "number"
      ? (a, b) => Number(key(a).dataset.value) - Number(key(b).dataset.value)
      : (a, b) => collator.compare(key(a).textContent, key(b).textContent);
    const rows = [...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
    for (const other of headings) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  }

  function filterRows(text) {
    const words = text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const content = row.textContent.toLocaleLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
      shown += !row.hidden;
    }
    const all = body.rows.length;
    document.getElementById("count").textContent =
      shown === all ? `${all} rows` : `${shown} of ${all} rows`;
  }

  for (const heading of headings) {
    heading.querySelector("button").addEventListener("click", () => sortBy(heading));
  }
  document.getElementById("filter").addEventListener("input", (event) => {
    filterRows(event.target.value);
  });
}

const table = document.getElementById("table");
if (table) prepareTable(table);
drawAll();

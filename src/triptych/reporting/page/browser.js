"use strict";
// The browser of predictions. Every text is set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  const byId = (id) => document.getElementById(id);
  const [metric, rowA, rowB, order, find, list, detail] = ["metric", "row-a", "row-b", "order", "find", "documents", "detail"].map(byId);
  if (!data.documents.length) return;
  byId("browser").hidden = false;
  const SHOWN = 300;
  const metrics = Object.keys(data.metrics);
  const seeds = new Set(data.runs.map((run) => run.seed));
  const names = data.runs.map((run) => (seeds.size > 1 ? `${run.label}, seed ${run.seed}` : run.label));
  const options = (select, texts, chosen) => {
    select.replaceChildren(...texts.map((text) => new Option(text)));
    select.selectedIndex = Math.min(chosen, texts.length - 1);
  };
  options(metric, Object.values(data.metrics), 0);
  options(rowA, names, data.runs.length - 1);
  options(rowB, names, 0);
  options(order, ["position in the file", "a better than b", "b better than a", "a highest", "a lowest"], 0);

  let shown = [], chosen = -1;
  const score = (run, index) => data.runs[run].predictions[index][1 + metric.selectedIndex];
  const difference = (index) => score(rowA.selectedIndex, index) - score(rowB.selectedIndex, index);
  const sign = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || [];
  const element = (name, text, properties = {}) => Object.assign(document.createElement(name), { textContent: text, ...properties });

  function arrange() {
    const wanted = find.value.trim().toLowerCase();
    const current = shown[chosen];
    shown = data.documents.map((_, index) => index);
    if (wanted) shown = shown.filter((index) => `${data.documents[index].join("\n")}\n${data.runs.map((run) => run.predictions[index][0]).join("\n")}`.toLowerCase().includes(wanted));
    const keys = [null, (i) => -difference(i), difference, (i) => -score(rowA.selectedIndex, i), (i) => score(rowA.selectedIndex, i)];
    const key = keys[order.selectedIndex];
    if (key) shown.sort((a, b) => key(a) - key(b) || a - b);
    const total = shown.length;
    shown = shown.slice(0, SHOWN);
    byId("listing").textContent = total > SHOWN ? `The first ${SHOWN} of ${total} documents; search to find the others.` : `${total} ${total === 1 ? "document" : "documents"}.`;
    if (data.total > data.documents.length) byId("listing").textContent += ` This page has ${data.documents.length} of the ${data.total} test documents, evenly spaced; predictions.jsonl of each run has all of them.`;
    list.replaceChildren(...shown.map((index, place) => {
      const item = element("li", data.documents[index][0], { id: `document-${place}`, dir: "auto" });
      item.setAttribute("role", "option");
      item.append(element("small", `${names[rowA.selectedIndex]} minus ${names[rowB.selectedIndex]}: ${sign(difference(index))}`));
      item.addEventListener("click", () => choose(place));
      return item;
    }));
    choose(current !== undefined && !key ? Math.max(0, shown.indexOf(current)) : 0);
  }

  function choose(place) {
    list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    chosen = shown.length ? Math.max(0, Math.min(place, shown.length - 1)) : -1;
    if (chosen < 0) {
      list.removeAttribute("aria-activedescendant");
      detail.replaceChildren(element("p", "No document contains these words."));
      return;
    }
    const item = list.children[chosen];
    item.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", item.id);
    const [top, bottom] = [item.offsetTop - list.offsetTop, item.offsetTop - list.offsetTop + item.offsetHeight];
    if (top < list.scrollTop) list.scrollTop = top;
    if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
    describe(shown[chosen]);
  }

  function describe(index) {
    const [id, reference] = data.documents[index];
    const known = new Set(words(reference));
    const parts = [element("h4", `Reference of ${id}`), element("p", reference, { dir: "auto", style: "white-space: pre-line" })];
    if (data.excerpts) parts.push(element("h4", "From the article"), element("p", data.excerpts[index], { dir: "auto" }));
    data.runs.forEach((run, place) => {
      const [text, ...scores] = run.predictions[index];
      const heading = element("h4", `${names[place]} `);
      heading.append(element("span", metrics.map((name, at) => `${data.metrics[name]} ${scores[at].toFixed(2)}`).join(" · "), { className: "score" }));
      parts.push(heading, text.trim() ? marked(text, known, run.unsupported ? run.unsupported[index] : []) : element("p", "(empty)"));
    });
    detail.replaceChildren(...parts);
  }

  // Unsupported numbers and names are given by their places, counted in characters as Python counts them.
  function marked(text, known, unsupported) {
    const paragraph = element("p", "", { dir: "auto", style: "white-space: pre-line" });
    const characters = Array.from(text);
    let end = 0;
    for (const [begin, stop] of [...unsupported, [characters.length, characters.length]]) {
      for (const piece of characters.slice(end, begin).join("").split(/([\p{L}\p{N}]+)/u))
        paragraph.append(known.has(piece.toLowerCase()) ? element("mark", piece) : piece);
      if (stop > begin) paragraph.append(element("mark", characters.slice(begin, stop).join(""), { className: "wrong", title: "not in the article" }));
      end = stop;
    }
    return paragraph;
  }

  list.addEventListener("keydown", (event) => {
    const page = 10;
    const target = { ArrowDown: chosen + 1, ArrowUp: chosen - 1, PageDown: chosen + page, PageUp: chosen - page, Home: 0, End: shown.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    choose(target);
  });
  for (const control of [metric, rowA, rowB, order]) control.addEventListener("change", arrange);
  find.addEventListener("input", arrange);
  arrange();
})();

"use strict";
// The figures are drawn already. Here their methods are switched on and off, and their numbers are read by pointer or keys.
(() => {
  const data = JSON.parse(document.getElementById("figure-data").textContent);
  const SPACE = "http://www.w3.org/2000/svg";
  const NEAR = 24; // in units of the drawing: farther from every point, nothing is read
  const HINT = "Point at a mark, or focus the figure and use the arrow keys, to read its numbers.";

  const node = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  // A button for each entry of the legend, in place of the legend: it takes a method out of the figure and back.
  function keys(svg, labels, hidden, changed) {
    const legend = svg.querySelector(".legend");
    if (!legend) return null;
    const buttons = [...legend.querySelectorAll("[data-key]")].map((entry) => {
      const row = Number(entry.dataset.key);
      const text = entry.querySelector("text").parentNode;
      const note = text.textContent.match(/ \(not measured\)$/);
      text.remove();
      const box = entry.getBBox();
      const sample = document.createElementNS(SPACE, "svg");
      sample.setAttribute("viewBox", `${box.x - 1} ${box.y - 4} ${box.width + 2} ${box.height + 8}`);
      sample.setAttribute("aria-hidden", "true");
      sample.append(entry);
      const button = node("button", { type: "button", "aria-pressed": "true" }, sample, labels[row] + (note ? note[0] : ""));
      button.addEventListener("click", () => {
        if (!hidden.delete(row)) hidden.add(row);
        button.setAttribute("aria-pressed", String(!hidden.has(row)));
        for (const mark of svg.querySelectorAll(`[data-row="${row}"]`)) mark.style.display = hidden.has(row) ? "none" : "";
        changed();
      });
      return node("li", {}, button);
    });
    return node("ul", { class: "keys", "aria-label": "methods shown" }, ...buttons);
  }

  for (const [name, { labels, series }] of Object.entries(data)) {
    const place = document.getElementById(`plot-${name}`);
    const drawing = place.firstElementChild, svg = drawing.firstElementChild;
    const hidden = new Set();
    const readout = node("p", { class: "readout", role: "status" });
    const ring = document.createElementNS(SPACE, "circle");
    ring.setAttribute("class", "ring");
    ring.setAttribute("r", "6");
    const all = series.flatMap(([row, text, points]) => points.map(([x, y, ...numbers]) => ({ row, text, x, y, numbers })));
    let points = all, at = -1;

    function show(point) {
      let place = 0;
      readout.textContent = point ? labels[point.row] + point.text.replace(/\{\}/g, () => point.numbers[place++]) : HINT;
      ring.style.display = point ? "" : "none";
      if (point) { ring.setAttribute("cx", point.x); ring.setAttribute("cy", point.y); }
    }

    function changed() {
      points = all.filter((point) => !hidden.has(point.row));
      at = -1;
      show(null);
    }

    drawing.addEventListener("pointermove", (event) => {
      if (!points.length) return;
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const distance = (point) => Math.hypot(point.x - x, point.y - y);
      const near = points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
      show(distance(near) < NEAR ? near : null);
    });
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !points.length) return;
      event.preventDefault();
      at = at < 0 && step < 0 ? points.length - 1 : (at + step + points.length) % points.length;
      show(points[at]);
    });

    const { y: top } = svg.querySelector(".legend")?.getBBox() ?? {};
    const list = keys(svg, labels, hidden, changed);
    if (list) {
      place.prepend(list);
      svg.viewBox.baseVal.height = top - 4; // without the legend, which was at the bottom
      svg.querySelector(".legend").remove();
    }
    svg.append(ring);
    place.append(readout);
    drawing.setAttribute("aria-label", `${drawing.getAttribute("aria-label")}. Arrow keys read the points.`);
    changed();
  }
})();

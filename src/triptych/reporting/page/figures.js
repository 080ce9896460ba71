"use strict";
// Interactive figures: rows are switched on and off, points tell their numbers under the pointer or the arrow keys.
(() => {
  const data = JSON.parse(document.getElementById("figure-data").textContent);
  const SPACE = "http://www.w3.org/2000/svg";
  const DASHES = ["", "7 4", "7 3 2 3", "2 3", "10 3", "6 2 2 2 2 2", "1 3"];
  // Drawn smaller on a phone, so that the letters keep their size.
  const WIDTH = window.innerWidth < 700 ? 400 : 680;
  const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 56, 16, 14, 48];
  const svg = (name, attributes, ...children) => {
    const element = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const node = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const short = (value) => {
    for (const [unit, size] of [["P", 1e15], ["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]])
      if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
    return `${Number(value.toPrecision(4))}`;
  };
  // Black is not seen on a dark ground: the page's own ink stands in for it.
  const colour = (row) => (row.colour === "#000000" ? "currentColor" : row.colour);

  function marker(row, x, y, filled = true, size = 5.5) {
    const s = size;
    const paths = [
      `M${-s} 0A${s} ${s} 0 1 0 ${s} 0A${s} ${s} 0 1 0 ${-s} 0Z`, `M${-s} ${-s}H${s}V${s}H${-s}Z`, `M0 ${-s}L${s} ${s}H${-s}Z`,
      `M0 ${-s * 1.3}L${s * 1.2} 0L0 ${s * 1.3}L${-s * 1.2} 0Z`, `M0 ${s}L${s} ${-s}H${-s}Z`,
      `M${-s / 3} ${-s}H${s / 3}V${-s / 3}H${s}V${s / 3}H${s / 3}V${s}H${-s / 3}V${s / 3}H${-s}V${-s / 3}H${-s / 3}Z`,
      `M${-s} ${-s}L${s} ${s}M${s} ${-s}L${-s} ${s}`,
    ];
    return svg("path", {
      d: paths[row.shape % paths.length], transform: `translate(${x} ${y})`, stroke: colour(row), "stroke-width": 1.8,
      fill: filled ? colour(row) : "var(--ground)",
    });
  }

  function ticks(low, high, log) {
    if (log) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        if (10 ** power >= low && 10 ** power <= high) found.push(10 ** power);
      return found.length > 1 ? found : [low, high];
    }
    const raw = (high - low) / 5 || 1;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
    const found = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(tick);
    return found;
  }

  function frame(xs, ys, xTitle, yTitle, { log = false, zero = false } = {}) {
    let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    const pad = (y1 - y0) * 0.06 || 1;
    [y0, y1] = [y0 - pad, y1 + pad];
    if (log) [x0, x1] = [x0 / 1.6, x1 * 1.6];
    else [x0, x1] = [zero ? 0 : x0, x1 * 1.05 || 1];
    const scale = log ? Math.log10 : (value) => value;
    const x = (value) => LEFT + ((scale(value) - scale(x0)) / (scale(x1) - scale(x0))) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - ((value - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
    const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
    for (const tick of ticks(x0, x1, log)) {
      root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: TOP, y2: HEIGHT - BOTTOM }),
        svg("text", { x: x(tick), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, short(tick)));
    }
    for (const tick of ticks(y0, y1, false)) {
      root.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
        svg("text", { x: LEFT - 7, y: y(tick) + 4, "text-anchor": "end" }, short(tick)));
    }
    root.append(svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
      svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, xTitle),
      svg("text", { transform: `translate(15 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle));
    return { root, x, y };
  }

  // A plot: choices above, keys that switch rows, the drawing, and a line that says what is under the pointer.
  function plot(name, rows, choices, draw) {
    const place = document.getElementById(`plot-${name}`);
    if (!place || !rows.length) return;
    const hidden = new Set();
    const drawing = node("div", { tabindex: "0", role: "group", "aria-label": `${place.getAttribute("aria-label")}. Arrow keys read the points.` });
    const readout = node("p", { class: "readout", role: "status" });
    let choice = 0, points = [], at = -1;
    const tell = (point) => { readout.textContent = point ? point.text : "Point at a mark, or focus the figure and use the arrow keys, to read its numbers."; };
    function render() {
      const shown = rows.filter((row) => !hidden.has(row.label));
      points = [];
      at = -1;
      const made = shown.length ? draw(shown, choices[choice], (x, y, text) => points.push({ x, y, text })) : null;
      drawing.replaceChildren(made || "Every row is switched off, or nothing was measured.");
      tell(null);
      if (!made) return;
      const ring = svg("circle", { r: 9, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" });
      made.append(ring);
      drawing.show = (point) => {
        tell(point);
        ring.setAttribute("visibility", point ? "visible" : "hidden");
        if (point) { ring.setAttribute("cx", point.x); ring.setAttribute("cy", point.y); }
      };
    }
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.firstElementChild?.getBoundingClientRect();
      if (!box || !points.length) return;
      const [x, y] = [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT];
      const near = points.reduce((best, point) => (Math.hypot(point.x - x, point.y - y) < Math.hypot(best.x - x, best.y - y) ? point : best));
      drawing.show(Math.hypot(near.x - x, near.y - y) < 40 ? near : null);
    });
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !points.length) return;
      event.preventDefault();
      at = at < 0 && step < 0 ? points.length - 1 : (at + step + points.length) % points.length;
      drawing.show(points[at]);
    });
    if (choices.length > 1) {
      const select = node("select", { "aria-label": `what to show in: ${place.getAttribute("aria-label")}` }, ...choices.map((one) => node("option", {}, one.title)));
      select.addEventListener("change", () => { choice = select.selectedIndex; render(); });
      place.append(node("div", { class: "controls" }, select));
    }
    const keys = rows.map((row) => {
      const sample = svg("svg", { viewBox: "0 0 30 12", "aria-hidden": "true" });
      sample.append(svg("line", { x1: 0, x2: 30, y1: 6, y2: 6, stroke: colour(row), "stroke-width": 2, "stroke-dasharray": DASHES[row.shape % DASHES.length] }));
      if (row.trained) sample.append(marker(row, 15, 6, true, 4));
      const button = node("button", { type: "button", "aria-pressed": "true" }, sample, row.label);
      button.addEventListener("click", () => {
        if (!hidden.delete(row.label)) hidden.add(row.label);
        button.setAttribute("aria-pressed", String(!hidden.has(row.label)));
        render();
      });
      return node("li", {}, button);
    });
    place.append(node("ul", { class: "keys", "aria-label": "rows shown" }, ...keys), drawing, readout);
    render();
  }

  const line = (row, points, f) => svg("path", {
    d: points.map(([x, y], index) => `${index ? "L" : "M"}${f.x(x)} ${f.y(y)}`).join(""), fill: "none", stroke: colour(row),
    "stroke-width": 1.9, "stroke-dasharray": DASHES[row.shape % DASHES.length],
  });

  plot("curves", data.rows.filter((row) => data.curves[row.label]),
    [{ title: "validation loss", key: "validation" }, { title: "training loss", key: "train" }], (rows, choice, point) => {
      const series = rows.map((row) => [row, data.curves[row.label][choice.key]]).filter(([, points]) => points.length);
      const all = series.flatMap(([, points]) => points);
      if (!all.length) return null;
      const f = frame(all.map(([x]) => x), all.map(([, y]) => y), "optimizer step", `${choice.title} (nats per target token)`, { zero: true });
      for (const [row, points] of series) {
        f.root.append(line(row, points, f));
        const every = Math.max(1, Math.floor(points.length / 12));
        points.forEach(([x, y], index) => {
          if (index % every === 0) f.root.append(marker(row, f.x(x), f.y(y), true, 3.6));
          point(f.x(x), f.y(y), `${row.label}: ${choice.title} ${y.toFixed(4)} nats per target token at step ${short(x)}`);
        });
      }
      return f.root;
    });

  const COSTS = [
    { key: "train_seconds", title: "training time (s)", front: "onFront" },
    { key: "trainable", title: "trainable parameters", front: "onParameterFront" },
    { key: "train_flops", title: "training compute (FLOP)" },
    { key: "peak_memory_bytes", title: "peak memory while training (bytes)" },
    { key: "energy_joules", title: "energy of training (J)" },
  ].filter((cost) => data.rows.some((row) => row.trained && row[cost.key]));

  plot("pareto", data.rows.filter((row) => row.rouge1), COSTS, (rows, choice, point) => {
    if (!choice) return null;
    const placed = rows.filter((row) => row.trained && row[choice.key]);
    if (!placed.length) return null;
    const xs = placed.map((row) => row[choice.key]);
    const ys = rows.flatMap(({ rouge1 }) => [rouge1.mean, rouge1.low ?? rouge1.mean, rouge1.high ?? rouge1.mean]);
    const log = Math.max(...xs) > 8 * Math.min(...xs);
    const f = frame(xs, ys, choice.title + (log ? ", log scale" : ""), "test R-1 (F1, 0-100)", { log, zero: true });
    for (const row of rows) {
      const { mean, low, high } = row.rouge1;
      const range = low === null ? "" : `, 95% interval ${low.toFixed(2)} to ${high.toFixed(2)}`;
      if (!row.trained) {
        f.root.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: f.y(mean), y2: f.y(mean), stroke: colour(row), "stroke-width": 1.6, "stroke-dasharray": DASHES[row.shape % DASHES.length] }));
        point(WIDTH / 2, f.y(mean), `${row.label}: R-1 ${mean.toFixed(2)}${range}, no training`);
      } else if (row[choice.key]) {
        const x = f.x(row[choice.key]);
        if (low !== null) f.root.append(svg("path", { d: `M${x} ${f.y(low)}V${f.y(high)}M${x - 4} ${f.y(low)}h8M${x - 4} ${f.y(high)}h8`, stroke: colour(row), "stroke-width": 1.6, fill: "none" }));
        f.root.append(marker(row, x, f.y(mean), !choice.front || row[choice.front]));
        point(x, f.y(mean), `${row.label}: R-1 ${mean.toFixed(2)}${range}, ${choice.title} ${short(row[choice.key])}`);
      }
    }
    return f.root;
  });

  plot("spending", data.rows.filter((row) => row.trained && !row.failed), data.spending, (rows, choice, point) => {
    const lines = choice.lines.flatMap(([label, seed, points]) => rows.filter((row) => row.label === label).map((row) => [row, seed, points]));
    const all = lines.flatMap(([, , points]) => points);
    if (!all.length) return null;
    const f = frame(all.map(([x]) => x), all.map(([, y]) => y), choice.title, "validation loss (nats per target token)", { zero: true });
    for (const [row, seed, points] of lines) {
      f.root.append(line(row, points, f));
      for (const [x, y] of points) {
        f.root.append(marker(row, f.x(x), f.y(y), true, 3.6));
        point(f.x(x), f.y(y), `${row.label}, seed ${seed}: validation loss ${y.toFixed(4)} nats per target token, ${choice.title} ${short(x)}`);
      }
    }
    return f.root;
  });

  const SCORES = [{ title: "test R-1 (F1, 0-100)", key: "rouge1", digits: 2 }, { title: "test loss (nats per target token)", key: "loss", digits: 4 }];
  plot("scaling", data.rows.filter((row) => data.scaling.some(({ rows }) => rows[row.label])), SCORES, (rows, choice, point) => {
    const series = rows.map((row) => [row, data.scaling.map((at) => [at.documents, at.rows[row.label]?.[choice.key]]).filter(([, e]) => e && e.mean !== null)]);
    const all = series.flatMap(([, points]) => points);
    if (!all.length) return null;
    const f = frame(all.map(([x]) => x), all.flatMap(([, e]) => [e.mean, e.low ?? e.mean, e.high ?? e.mean]), "training documents, log scale", choice.title, { log: true });
    for (const [row, points] of series) {
      f.root.append(line(row, points.map(([x, e]) => [x, e.mean]), f));
      for (const [x, { mean, low, high }] of points) {
        const range = low === null ? "" : `, 95% interval ${low.toFixed(choice.digits)} to ${high.toFixed(choice.digits)}`;
        if (low !== null) f.root.append(svg("path", { d: `M${f.x(x)} ${f.y(low)}V${f.y(high)}`, stroke: colour(row), "stroke-width": 1.6, fill: "none" }));
        f.root.append(marker(row, f.x(x), f.y(mean), true, 4.5));
        point(f.x(x), f.y(mean), `${row.label} on ${x} documents: ${choice.title} ${mean.toFixed(choice.digits)}${range}`);
      }
    }
    return f.root;
  });

  // Means with intervals, one under the other; `zero` draws the line of no difference.
  function whiskers(lines, title, zero, point) {
    const height = TOP + BOTTOM + 34 * lines.length;
    const room = WIDTH < 500 ? 130 : 190;
    const values = lines.flatMap(({ mean, low, high }) => [mean, low ?? mean, high ?? mean]).concat(zero ? [0] : []);
    let [x0, x1] = [Math.min(...values), Math.max(...values)];
    const pad = (x1 - x0) * 0.06 || 1;
    [x0, x1] = [x0 - pad, x1 + pad];
    const x = (value) => room + ((value - x0) / (x1 - x0)) * (WIDTH - room - RIGHT);
    const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, "aria-hidden": "true" });
    for (const tick of ticks(x0, x1, false))
      root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: TOP, y2: height - BOTTOM }),
        svg("text", { x: x(tick), y: height - BOTTOM + 17, "text-anchor": "middle" }, short(tick)));
    if (zero) root.append(svg("line", { x1: x(0), x2: x(0), y1: TOP, y2: height - BOTTOM, stroke: "currentColor", "stroke-width": 1.4 }));
    lines.forEach(({ name, row, mean, low, high, text }, index) => {
      const y = TOP + 34 * (index + 0.5);
      const shown = name.length > room / 7 ? name.slice(0, room / 7 - 1) + "…" : name;
      root.append(svg("text", { x: room - 10, y: y + 4, "text-anchor": "end" }, shown));
      if (low !== null) root.append(svg("path", { d: `M${x(low)} ${y}H${x(high)}M${x(low)} ${y - 5}v10M${x(high)} ${y - 5}v10`, stroke: colour(row), "stroke-width": 1.8, fill: "none" }));
      root.append(marker(row, x(mean), y));
      point(x(mean), y, text);
    });
    root.append(svg("text", { x: (room + WIDTH - RIGHT) / 2, y: height - 8, "text-anchor": "middle" }, title));
    return root;
  }

  const ROUGE = [["rouge1", "R-1"], ["rouge2", "R-2"], ["rougeL", "R-L"], ["rougeLsum", "R-Lsum"]].map(([key, title]) => ({ key, title }));
  const within = (low, high) => (low === null ? "" : `, interval ${low.toFixed(2)} to ${high.toFixed(2)}`);
  plot("intervals", data.rows.filter((row) => row.rouge1), ROUGE, (rows, { key, title }, point) => whiskers(rows.map((row) => {
    const { mean, low, high } = row.scores[key];
    return { name: row.label, row, mean, low, high, text: `${row.label}: ${title} ${mean.toFixed(2)}${within(low, high)}` };
  }), `${title} (F1, 0-100)`, false, point));
  plot("differences", data.rows.filter((row) => row.rouge1), ROUGE, (rows, { key, title }, point) => {
    const shown = Object.fromEntries(rows.map((row) => [row.label, row]));
    const lines = data.tests.filter((test) => test.metric === key && shown[test.a] && shown[test.b]).map(({ a, b, difference, low, high }) => {
      const text = `${a} minus ${b}: ${title} ${difference.toFixed(2)}${within(low, high)}`;
      return { name: `${a} − ${b}`, row: shown[a], mean: difference, low, high, text };
    });
    return lines.length ? whiskers(lines, `difference in ${title} (points of F1)`, true, point) : null;
  });

  plot("cost", data.rows.filter((row) => row.trained && !row.failed), COSTS, (rows, choice, point) => {
    if (!choice) return null;
    const high = Math.max(...rows.map((row) => row[choice.key] || 0));
    const step = (HEIGHT - TOP - 24) / Math.max(rows.length, 4);
    const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
    const room = WIDTH < 500 ? 120 : 160;
    rows.forEach((row, index) => {
      const top = TOP + index * step, middle = top + step / 2;
      const value = row[choice.key];
      const length = value ? (value / high) * (WIDTH - room - 80) : 0;
      const name = row.label.length > room / 7 ? row.label.slice(0, room / 7 - 1) + "…" : row.label;
      root.append(svg("text", { x: room - 8, y: middle + 4, "text-anchor": "end" }, name),
        svg("rect", { x: room, y: top + step * 0.18, width: length, height: step * 0.64, fill: colour(row), stroke: "currentColor" }),
        svg("text", { x: room + length + 7, y: middle + 4 }, value === null || value === undefined ? "not measured" : short(value)));
      point(room + length, middle, `${row.label}: ${choice.title} ${value === null || value === undefined ? "not measured" : short(value)}`);
    });
    root.append(svg("text", { x: room, y: HEIGHT - 6 }, choice.title));
    return root;
  });
})();

"use strict";
// Tables sort by a click or the Enter key on a column's head.
(() => {
  const text = (row, column) => row.cells[column].textContent.trim();
  const number = (row, column) => {
    const value = row.cells[column].dataset.value;
    return value === undefined ? null : Number(value);
  };

  function sort(table, column) {
    const head = table.tHead.rows[0].cells[column];
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.some((row) => number(row, column) !== null);
    rows.sort((a, b) => {
      if (!numeric) return direction * text(a, column).localeCompare(text(b, column));
      const [x, y] = [number(a, column), number(b, column)];
      if (x === null || y === null) return (x === null) - (y === null); // what is missing stays below
      return direction * (x - y);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column));
      head.replaceChildren(button);
    });
  }
})();

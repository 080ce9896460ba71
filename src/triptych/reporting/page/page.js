"use strict";
// The contents, made from the headings; equations wider than the page can be reached and scrolled by keyboard.
(() => {
  const list = document.createElement("ol");
  document.querySelectorAll("main > h2").forEach((heading, index) => {
    heading.id ||= `section-${index + 1}`;
    const link = document.createElement("a");
    link.href = `#${heading.id}`;
    link.textContent = heading.textContent.replace(/^[\d.]+\s*/, "");
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  });
  document.getElementById("contents").append(list);

  for (const equation of document.querySelectorAll('math[display="block"]')) equation.setAttribute("tabindex", "0");
})();

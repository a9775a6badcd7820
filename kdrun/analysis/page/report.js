"use strict";
// A click on a column's head sorts its table: figures with the largest first, texts by the alphabet, once more the other way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const words = new Intl.Collator("en", { numeric: true });
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("right");
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    const value = row => {
      const text = row.cells[column].textContent.trim();
      if (!numeric) return text;
      return parseFloat(text.replace("\u2212", "-").replace("<", "0")); // "<.001" is "0.001"; a dash is not a number
    };
    const missing = found => found === "" || found === "\u2013" || Number.isNaN(found);
    const rows = [...body.rows].map(row => [value(row), row]);
    rows.sort(([one], [other]) => {
      if (missing(one) || missing(other)) return missing(one) - missing(other); // what has no value stays below
      const order = numeric ? one - other : words.compare(one, other);
      return down ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }));
}

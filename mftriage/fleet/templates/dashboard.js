"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  // Columns come as lists, or as words and the number of each row's word.
  const columns = {};
  for (const [name, column] of Object.entries(data.rows)) {
    columns[name] = Array.isArray(column) ? column : column.at.map((at) => column.words[at]);
  }
  const total = columns.time.length;
  const searched = ["host", "source", "summary", "reason", "dimm", "memory", "pfn", "owner", "slab_cache", "kernel", "signature", "crash_site", "verdict"];
  const haystack = new Array(total);
  const hay = (row) => (haystack[row] ??= searched.map((name) => columns[name][row] ?? "").join("\n").toLowerCase());
  const state = { text: "", verdict: "", host: "", since: "", sort: "time", down: true, page: 0, size: data.page };
  let found = [];

  const kindOf = (row) => columns.verdict[row] ?? columns.status[row] ?? "unknown";
  const titleOf = (kind) => data.kinds[kind]?.[0] ?? kind;

  const collator = new Intl.Collator("en", { numeric: true });
  const ranked = {};
  // Each row's place in the order of a column; words are compared once each, not once a row.
  function ranks(name) {
    if (ranked[name]) return ranked[name];
    const values = columns[name];
    const known = [...new Set(values)].filter((value) => value !== null);
    known.sort((a, b) => typeof a === "number" ? a - b : collator.compare(a, b));
    const place = new Map(known.map((value, at) => [value, at]));
    return ranked[name] = values.map((value) => place.get(value) ?? null);
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);  // what is not known comes last
    return state.down ? b - a : a - b;
  }

  function apply() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const host = state.host.toLowerCase();
    const since = state.since ? Date.parse(state.since + "T00:00:00Z") / 1000 : null;
    found = [];
    for (let row = 0; row < total; row++) {
      if (state.verdict && kindOf(row) !== state.verdict) continue;
      if (since !== null && !(columns.time[row] >= since)) continue;
      if (host && !(columns.host[row] ?? "").toLowerCase().includes(host)) continue;
      if (words.length && !words.every((word) => hay(row).includes(word))) continue;
      found.push(row);
    }
    const place = ranks(state.sort);
    found.sort((a, b) => compare(place[a], place[b]) || a - b);
    const pages = Math.max(1, Math.ceil(found.length / state.size));
    state.page = Math.min(state.page, pages - 1);
    draw(pages);
    remember();
  }

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text != null) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function cell(head, text, below, className) {
    const made = element("td", text, className);
    made.dataset.head = head;
    if (below) made.append(element("small", below));
    return made;
  }

  function line(row) {
    const at = (name) => columns[name][row];
    const made = element("tr", null, data.kinds[at("verdict")]?.[1] ?? "unknown");
    const time = cell("Crashed (UTC)");
    time.append(element("span", at("shown") || "not known", "nowrap"));
    if (data.links !== null && at("link")) {
      const link = element("a", "Report");
      link.href = data.links + at("link");
      link.setAttribute("aria-label", `Report of ${at("host") || at("source") || "this dump"}, ${at("shown")}`);
      const small = element("small");
      small.append(link);
      time.append(small);
    }
    const verdict = cell("Verdict");
    verdict.append(element("span", at("verdict") ?? at("status") ?? "unknown", "kind"));
    if (at("injected")) verdict.append(" ", element("span", "injected", "tag"));
    verdict.append(element("small", at("summary") || at("reason") || ""));
    made.append(time, cell("Host", at("host") || "–", at("source")), verdict,
      cell("Memory", at("memory") || "–", at("page"), at("memory") ? "" : "none"), cell("Kernel", at("kernel") || "–"),
      cell("Error to crash", at("lived") || "–", "", at("lived") ? "num" : "num none"));
    return made;
  }

  function draw(pages) {
    const first = state.page * state.size;
    $("body").replaceChildren(...found.slice(first, first + state.size).map(line));
    const many = found.length.toLocaleString("en"), all = total.toLocaleString("en");
    $("count").textContent = !found.length ? `None of ${all} dumps fits.`
      : found.length === total ? `${all} ${total === 1 ? "dump" : "dumps"}.` : `${many} of ${all} dumps.`;
    $("where").textContent = `Page ${(state.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    $("before").disabled = state.page === 0;
    $("after").disabled = state.page >= pages - 1;
    for (const head of document.querySelectorAll("th[data-sort]")) {
      if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  // What is chosen stands behind the address's #, so that it can be passed on.
  const kept = ["text", "verdict", "host", "since", "sort"];
  function remember() {
    const chosen = new URLSearchParams();
    for (const name of kept) if (state[name] && state[name] !== "time") chosen.set(name, state[name]);
    if (!state.down) chosen.set("up", "1");
    const hash = chosen.toString();
    try { history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search); } catch { /* not from a file in every browser */ }
  }

  function recall() {
    const chosen = new URLSearchParams(location.hash.slice(1));
    for (const name of kept) if (chosen.has(name)) state[name] = chosen.get(name);
    if (!(state.sort in columns)) state.sort = "time";
    if (Number.isNaN(Date.parse(state.since + "T00:00:00Z"))) state.since = "";
    state.down = !chosen.has("up");
    for (const name of ["text", "verdict", "host", "since"]) $(name).value = state[name];
  }

  function choose(name, value) {
    state[name] = value;
    state.page = 0;
    apply();
  }

  let pending;
  for (const name of ["text", "host", "since"]) {
    $(name).addEventListener("input", () => {
      clearTimeout(pending);
      state[name] = $(name).value.trim();
      pending = setTimeout(() => choose(name, state[name]), 120);
    });
  }
  $("verdict").addEventListener("change", () => choose("verdict", $("verdict").value));
  $("size").addEventListener("change", () => choose("size", Number($("size").value)));
  $("reset").addEventListener("click", () => {
    for (const name of ["text", "verdict", "host", "since"]) { $(name).value = ""; state[name] = ""; }
    choose("text", "");
    $("text").focus();
  });
  function turn(by, button) {
    state.page += by;
    apply();
    if (button.disabled) $(by > 0 ? "before" : "after").focus();  // focus is not lost at the last page
    $("all").scrollIntoView();
  }
  $("before").addEventListener("click", () => turn(-1, $("before")));
  $("after").addEventListener("click", () => turn(1, $("after")));

  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = element("button", head.textContent);
    button.type = "button";
    button.addEventListener("click", () => {
      state.down = state.sort === head.dataset.sort ? !state.down : head.dataset.sort === "time" || head.dataset.sort === "delay";
      choose("sort", head.dataset.sort);
    });
    head.replaceChildren(button);
  }
  for (const pick of document.querySelectorAll(".pick")) {
    pick.disabled = false;
    pick.addEventListener("click", () => {
      $(pick.dataset.filter).value = pick.dataset.value;
      choose(pick.dataset.filter, pick.dataset.value);
      $("dumps").focus();
      $("dumps").scrollIntoView();
    });
  }

  const kinds = [...new Set(Array.from({ length: total }, (_, row) => kindOf(row)))];
  const order = Object.keys(data.kinds);
  kinds.sort((a, b) => (order.indexOf(a) + 1 || 99) - (order.indexOf(b) + 1 || 99));
  for (const kind of kinds) {
    const option = element("option", titleOf(kind));
    option.value = kind;
    $("verdict").append(option);
  }
  const hosts = [...new Set(columns.host)].filter(Boolean).sort(collator.compare).slice(0, 1000);
  $("hosts").append(...hosts.map((host) => {
    const option = document.createElement("option");
    option.value = host;
    return option;
  }));
  for (const hidden of document.querySelectorAll(".filters, .pages")) hidden.hidden = false;
  $("unscripted").remove();
  addEventListener("hashchange", () => { recall(); apply(); });
  recall();
  apply();
})();

"use strict";
// The report in the browser: routes, tables, search and charts. Names come from a database, so they are only ever text:
// nothing here makes HTML from a string, and a chart's specification holds names only as values of its data.
(() => {
  const UNCHANGED = "u", IDENTICAL = "i", CHANGED = "c", NEW = "n", FAILED = "f", DROPPED = "d", LEFT = "-", ABSENT = " ";
  const STATES = {
    [UNCHANGED]: ["c-u", "·", "unchanged"], [IDENTICAL]: ["c-i", "=", "read again, identical"],
    [CHANGED]: ["c-c", "C", "changed"], [NEW]: ["c-n", "N", "new"], [FAILED]: ["c-f", "✕", "failed"],
    [DROPPED]: ["c-d", "D", "dropped"], [LEFT]: ["c-x", "", "not looked at"], [ABSENT]: ["c-a", "", "not there"],
  };
  const PAGE = 50, FIRST = 14, WIDE = 2;
  const KINDS = {
    table_new: "new table", table_dropped: "table dropped", table_renamed: "table renamed", column_added: "column added",
    column_removed: "column removed", column_type: "type changed", column_null: "nullability changed", key: "primary key changed",
  };
  // The fields of a table, of a run and of a table's night, as payload.py writes them.
  const NOW = ["state", "code", "detail", "rows", "raw", "stored", "asOf", "changedAt", "seconds", "chunks", "columns", "key",
    "unique", "comment", "encoding", "oldestRead", "objectCount", "layers", "objects"];
  const RUN = ["id", "outcome", "start", "end", "seconds", "moved", "stored", "rows", "counts"];
  const NIGHT = ["table", "rows", "rowsBefore", "stored", "storedBefore", "chunks", "chunksBefore", "read", "moved", "seconds", "code", "detail"];
  const CHANGE = ["kind", "table", "column", "before", "after"];

  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const named = (names, values) => Object.fromEntries(names.map((name, at) => [name, values[at]]));

  // Characters that are invisible or turn the direction of text are shown as escapes, as the commands do it. Lines stay.
  const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]/g;
  const escaped = (letter) => { const code = letter.charCodeAt(0); return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`; };
  const visible = (child) => typeof child === "string" ? child.replace(UNSEEN, escaped) : child;

  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(visible));
    return element;
  }

  // Numbers and times as text

  const count = (number) => number === null || number === undefined ? "–" : number.toLocaleString("en-GB");
  function size(number) {
    if (number === null || number === undefined) return "–";
    let unit = 0;
    while (number >= 999.5 && unit < 5) { number /= 1000; unit += 1; }
    return `${number.toFixed(unit === 0 || number >= 99.95 ? 0 : 1)} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
  }
  function span(seconds) {
    if (seconds === null || seconds === undefined) return "–";
    if (seconds < 100) return `${seconds.toFixed(1)} s`;
    const minutes = Math.floor(seconds / 60);
    return minutes < 60 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  // The days of a chart. They have a year if they are far apart: no two days must have the same label.
  function dayLabels(moments) {
    const long = Math.max(...moments) - Math.min(...moments) > 300 * 86400000;
    return moments.map((moment) => long ? `${dayOf(moment)} ${new Date(moment).getUTCFullYear()}` : dayOf(moment));
  }
  const two = (number) => String(number).padStart(2, "0");
  function dayOf(moment) { const at = new Date(moment); return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`; }
  function timeOf(moment) {
    if (moment === null || moment === undefined) return "–";
    const at = new Date(moment);
    return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  }
  const keyTime = (text) => text.length < 12 ? (text || "–") : `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6, 8)} ${text.slice(8, 10)}:${text.slice(10, 12)}`;

  // The data of a database: decompressed and indexed when it is first needed

  const loaded = new Map();
  function load(section) {
    if (!loaded.has(section)) loaded.set(section, unpack(section));
    return loaded.get(section);
  }
  async function unpack(section) {
    const text = $("script.data", section).textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return indexed(await new Response(stream).json(), section.dataset.slug);
  }
  function indexed(raw, slug) {
    const runs = raw.runs.map((values) => named(RUN, values));
    const days = dayLabels(runs.map((run) => run.end ?? run.start));
    const known = new Map(), twice = new Set(days).size < days.length;
    runs.forEach((run, at) => {
      const moment = run.end ?? run.start;
      const label = twice ? `${days[at]} ${timeOf(moment).slice(11)}` : days[at], same = (known.get(label) ?? 0) + 1;
      known.set(label, same);
      run.label = same > 1 ? `${label} (${same})` : label;
      run.moment = moment;
    });
    const tables = raw.tables.map(([schema, name], at) => ({
      at, schema, name, label: `${schema}.${name}`, now: at < raw.now.length ? named(NOW, raw.now[at]) : null, nights: new Map(),
      changes: [], href: `#/${slug}/${encodeURIComponent(schema)}/${encodeURIComponent(name)}`,
    }));
    raw.news.forEach((news, run) => news.forEach((values) => tables[values[0]].nights.set(run, named(NIGHT, values))));
    raw.changes.forEach((changes, run) => changes.forEach((values) => tables[values[1]].changes.push({ run, ...named(CHANGE, values) })));
    const state = { slug, runs, tables, cells: raw.cells };
    for (const table of tables) summarise(state, table);
    return state;
  }
  function summarise(state, table) {
    table.cells = state.runs.map((_, run) => state.cells[run] ? state.cells[run][table.at] : LEFT).join("");
    // Runs that committed nothing say nothing about a table that no earlier run knew.
    const first = state.runs.findIndex((_, run) => state.cells[run] && table.cells[run] !== ABSENT);
    if (first > 0) table.cells = " ".repeat(first) + table.cells.slice(first);
    const gone = !table.now || [DROPPED, ABSENT].includes(table.now.state);
    if (gone) table.cells = table.cells.replace(/[ -]+$/, (rest) => " ".repeat(rest.length));
    const number = (states) => [...table.cells].filter((cell) => states.includes(cell)).length;
    table.changed = number([CHANGED, NEW]);
    table.failed = number([FAILED]);
    table.looked = number([UNCHANGED, IDENTICAL, CHANGED, NEW, FAILED]);
    table.last = gone ? DROPPED : table.now.state;
    table.rows = table.now ? table.now.rows : null;
    table.stored = table.now ? table.now.stored : null;
    table.spent = [...table.nights.values()].reduce((sum, night) => sum + night.seconds, 0);
  }
  // A table's values by run. A run without news about the table left them as they were.
  function series(state, table, field, before) {
    const first = table.nights.size ? Math.min(...table.nights.keys()) : -1;
    let value = first < 0 ? (table.now ? table.now[field] : null) : table.nights.get(first)[before];
    return state.runs.map((run, at) => {
      const night = table.nights.get(at);
      if (night) value = night[field];
      return table.cells[at] === ABSENT || table.cells[at] === DROPPED ? null : value;
    });
  }

  // Charts: Vega-Lite draws them as SVG. Colours are CSS variables, so the theme and print need no new drawing.

  const CONFIG = {
    background: null, font: "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", view: { stroke: null },
    axis: { labelColor: "var(--soft)", titleColor: "var(--soft)", gridColor: "var(--line)", domainColor: "var(--line)", tickColor: "var(--line)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400, labelPadding: 5 },
    axisX: { grid: false, labelAngle: 0, labelOverlap: true, title: null }, axisY: { domain: false, ticks: false, tickCount: 5 },
    legend: { labelColor: "var(--ink)", orient: "top", title: null, labelFontSize: 12, symbolType: "square", offset: 6 },
    bar: { cornerRadiusEnd: 2 }, scale: { bandPaddingInner: 0.25 },
  };
  const refuse = { load: () => Promise.reject(new Error("the report loads nothing")), sanitize: () => Promise.reject(new Error("the report has no links in charts")) };
  async function draw(place, description, spec) {
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const whole = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", width: "container", height: 200, autosize: { type: "fit-x", contains: "padding" }, description, config: CONFIG, ...spec };
    const result = await window.vegaEmbed(place, whole, { renderer: "svg", actions: false, ast: true, defaultStyle: false, loader: refuse, tooltip: { theme: "custom" }, logLevel: 1 });
    place.view = result.view;
  }
  const x = (values, bars = true) => ({ field: "x", type: "ordinal", sort: null, scale: { type: bars ? "band" : "point", domain: [...new Set(values.map((one) => one.x))] } });
  const BYTES = { labelExpr: "replace(format(datum.value, '~s'), regexp('([kMGTP]?)$'), ' $1B')", title: null };
  const NUMBERS = { labelExpr: "datum.value % 1 ? '' : format(datum.value, '~s')", tickMinStep: 1, title: null };
  // What a mark tells to the mouse, and to a screen reader.
  const tip = { field: "tip", type: "nominal" }, spoken = { tooltip: tip, description: tip };

  // Two parts of a whole by night: what changed is at the bottom and dark, what stayed is above it and pale.
  function parts(values, axis) {
    const names = [...new Set(values.map((one) => one.part))];
    return {
      data: { values }, mark: { type: "bar" },
      encoding: {
        x: x(values), y: { field: "value", type: "quantitative", axis },
        color: { field: "part", type: "nominal", scale: { domain: names, range: ["var(--changed)", "var(--unchanged)"] } },
        order: { field: "order", type: "quantitative" }, ...spoken,
      },
    };
  }
  const part = (at, name, order, value, text) => ({ x: at, part: name, order, value, tip: text });
  function line(values, axis) {
    const encoding = { x: x(values, false), y: { field: "value", type: "quantitative", axis, scale: { zero: false, nice: true } } };
    return {
      data: { values },
      layer: [
        { mark: { type: "line", color: "var(--changed)", strokeWidth: 2.2, interpolate: "linear", aria: false }, encoding },
        { mark: { type: "point", filled: true, size: 42, color: "var(--changed)", opacity: 1 }, encoding: { ...encoding, ...spoken } },
      ],
    };
  }
  const charts = {
    bytes(place, state) {
      const values = state.runs.filter((run) => run.moved !== null).flatMap((run) => {
        const stayed = Math.max(0, run.stored - run.moved), text = `${run.label}: ${size(run.moved)} moved, ${size(stayed)} stayed`;
        return [part(run.label, "moved", 0, run.moved, text), part(run.label, "stayed", 1, stayed, text)];
      });
      return draw(place, "Bars: bytes that each run moved, and bytes that stayed", parts(values, BYTES));
    },
    rows(place, state) {
      const values = state.runs.filter((run) => run.rows !== null).map((run) => ({ x: run.label, value: run.rows, tip: `${run.label}: ${count(run.rows)} rows` }));
      return draw(place, "A line: rows of all tables by night", line(values, NUMBERS));
    },
    durations(place, state) {
      const values = state.runs.filter((run) => run.seconds !== null).map((run) => ({ x: run.label, value: run.seconds, outcome: run.outcome, mark: { partial: "◐", failed: "✕", stopped: "■" }[run.outcome] ?? "", tip: `${run.label}: ${run.outcome} after ${span(run.seconds)}` }));
      const encoding = { x: x(values), y: { field: "value", type: "quantitative", axis: { labelExpr: "format(datum.value, ',.2~f') + ' s'", title: null } } };
      const domain = ["success", "partial", "failed", "stopped"].filter((one) => values.some((value) => value.outcome === one));
      const color = { field: "outcome", type: "nominal", scale: { domain, range: domain.map((one) => `var(--${one})`) } };
      return draw(place, "Bars: duration and outcome of each run", {
        data: { values },
        layer: [
          { mark: { type: "bar" }, encoding: { ...encoding, color, ...spoken } },
          { mark: { type: "text", aria: false, dy: -8, fontSize: 12, fontWeight: "bold", color: "var(--ink)" }, encoding: { ...encoding, text: { field: "mark", type: "nominal" } } },
        ],
      });
    },
    slowest(place, state) {
      const slow = state.tables.filter((table) => table.spent > 0).sort((a, b) => b.spent - a.spent).slice(0, 10);
      if (!slow.length) return place.replaceChildren(h("p", { class: "empty" }, "No table was read in these nights."));
      const values = slow.map((table) => ({ table: visible(table.label), value: table.spent, tip: `${visible(table.label)}: ${span(table.spent)} in ${table.nights.size} nights` }));
      return draw(place, "Bars: the ten tables that took most time", {
        height: 24 * slow.length, data: { values }, mark: { type: "bar", color: "var(--changed)", height: 15 },
        encoding: {
          y: { field: "table", type: "nominal", sort: null, axis: { title: null, labelLimit: 190, labelColor: "var(--ink)" } },
          x: { field: "value", type: "quantitative", axis: { title: "seconds", grid: true, tickCount: 5, labelExpr: "format(datum.value, ',.2~f')" } }, ...spoken,
        },
      });
    },
  };
  function frontChart(place) {
    const nights = JSON.parse($("#front-data").textContent);
    const labels = dayLabels(nights.map(([day]) => Date.parse(`${day}T00:00:00Z`)));
    const values = nights.flatMap(([, moved, stayed], at) => {
      const label = labels[at], text = `${label}: ${size(moved)} moved, ${size(stayed)} stayed`;
      return [part(label, "moved", 0, moved, text), part(label, "stayed", 1, stayed, text)];
    });
    return draw(place, "Bars: bytes that all databases moved by day, and bytes that stayed", parts(values, BYTES));
  }

  // A table's nights as a strip. Its label says the same in words.

  function strip(state, table) {
    const words = {};
    for (const cell of table.cells) if (cell !== ABSENT) words[STATES[cell][2]] = (words[STATES[cell][2]] ?? 0) + 1;
    const label = Object.entries(words).map(([word, number]) => `${number} ${number === 1 ? "night" : "nights"} ${word}`).join("; ") || "not there";
    const element = h("span", { class: state.runs.length > 60 ? "cells tiny" : "cells", role: "img", "aria-label": label });
    [...table.cells].forEach((cell, run) => {
      const [kind, letter] = STATES[cell];
      element.append(h("i", { class: kind, "data-run": run }, letter));
    });
    element.table = table; element.state = state;
    return element;
  }
  function nightText(state, table, run) {
    const night = table.nights.get(run), cell = table.cells[run];
    const what = state.cells[run] ? STATES[cell][2] : `the run ${state.runs[run].outcome}`;
    const parts = [`${state.runs[run].label}: ${what}`];
    if (night && [CHANGED, NEW].includes(cell)) parts.push(`${night.read} of ${night.chunks} chunks, ${size(night.moved)}`);
    if (night && night.detail) parts.push(`${night.code}: ${night.detail}`);
    return parts.join(" · ");
  }
  const tipBox = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  document.body.append(tipBox);
  document.addEventListener("mouseover", (event) => {
    const cell = event.target.closest?.(".cells i");
    tipBox.hidden = !cell;
    if (!cell) return;
    const { state, table } = cell.parentElement;
    tipBox.textContent = visible(nightText(state, table, Number(cell.dataset.run)));
    const box = cell.getBoundingClientRect();
    tipBox.style.left = `${Math.min(box.left, innerWidth - Math.min(330, tipBox.offsetWidth + 10))}px`;
    tipBox.style.top = `${box.bottom + 6}px`;
  });
  const key = () => h("p", { class: "key" }, [UNCHANGED, IDENTICAL, CHANGED, NEW, FAILED, DROPPED, LEFT].map((cell) => h("span", {}, h("i", { class: STATES[cell][0], "aria-hidden": "true" }, STATES[cell][1]), STATES[cell][2])));

  // The tables of a database by night: searched, sorted, and shown a page at a time

  const COLUMNS = [
    ["Table", (table) => table.label.toLowerCase(), false], ["Rows", (table) => table.rows ?? -1, true], ["Landed", (table) => table.stored ?? -1, true],
    ["Changed", (table) => table.changed, true], ["Last", (table) => STATES[table.last][2], false],
  ];
  class TableList {
    constructor(place, state) {
      Object.assign(this, { place, state, column: null, down: true, text: "", only: "all", shown: PAGE });
      const id = `tables-${state.slug}`;
      this.body = h("tbody");
      this.told = h("p", { class: "shown", role: "status" });
      this.more = h("button", { class: "more", type: "button", on: { click: () => { this.shown += PAGE; this.show(); } } }, "Show more");
      const search = h("input", { type: "search", placeholder: "Part of a name", autocomplete: "off", spellcheck: "false", on: { input: (event) => { this.text = event.target.value; this.shown = PAGE; this.show(); } } });
      const only = h("select", { on: { change: (event) => { this.only = event.target.value; this.shown = PAGE; this.show(); } } }, [["all", "all tables"], ["changed", "changed ones"], ["failed", "failed ones"], ["gone", "dropped ones"]].map(([value, text]) => h("option", { value }, text)));
      const head = COLUMNS.map(([text, , number], at) => h("th", { scope: "col", class: number ? "num" : null, "aria-sort": "none" }, h("button", { type: "button", on: { click: () => this.sort(at) } }, text)));
      const first = state.runs[0]?.label ?? "", last = state.runs[state.runs.length - 1]?.label ?? "";
      this.heads = head;
      place.replaceChildren(
        h("h2", { id }, "Tables by night"),
        h("div", { class: "controls" }, h("label", {}, "Find", search), h("label", {}, "Show", only), this.told),
        h("div", { class: "scroll" }, h("table", { class: "cards heat", "aria-labelledby": id }, h("caption", { class: "hidden" }, "One row per table. The buttons in the header sort the rows. The last column has a mark per night, oldest first."),
          h("thead", {}, h("tr", {}, head, h("th", { scope: "col" }, h("span", { class: "axis" }, h("span", {}, first), h("span", {}, last))))), this.body)),
        key(), this.more,
      );
      this.show();
    }
    sort(at) {
      this.down = this.column === at ? !this.down : COLUMNS[at][2];
      this.column = at;
      this.heads.forEach((head, number) => head.setAttribute("aria-sort", number === at ? (this.down ? "descending" : "ascending") : "none"));
      this.show();
    }
    rows() {
      const text = this.text.toLowerCase();
      const fits = { all: () => true, changed: (table) => table.changed > 0, failed: (table) => table.failed > 0, gone: (table) => table.last === DROPPED }[this.only];
      const rows = this.state.tables.filter((table) => table.label.toLowerCase().includes(text) && fits(table));
      if (this.column === null) return rows.sort((a, b) => b.failed - a.failed || b.changed - a.changed || a.at - b.at);
      const value = COLUMNS[this.column][1], sign = this.down ? -1 : 1;
      return rows.sort((a, b) => (value(a) < value(b) ? -sign : value(a) > value(b) ? sign : 0));
    }
    show() {
      const rows = this.rows();
      this.body.replaceChildren(...rows.slice(0, this.shown).map((table) => this.row(table)));
      this.told.textContent = `${count(Math.min(this.shown, rows.length))} of ${count(rows.length)} tables`;
      this.more.hidden = rows.length <= this.shown;
    }
    row(table) {
      const [, letter, word] = STATES[table.last];
      return h("tr", {}, h("th", { scope: "row" }, h("a", { href: table.href }, table.label)), h("td", { class: "num", "data-label": "Rows" }, count(table.rows)),
        h("td", { class: "num", "data-label": "Landed" }, size(table.stored)), h("td", { class: "num", "data-label": "Changed" }, `${table.changed} of ${table.looked}`),
        h("td", { "data-label": "Last" }, [FAILED, DROPPED].includes(table.last) ? h("span", { class: `badge ${word}` }, h("span", { "aria-hidden": "true" }, letter), ` ${word}`) : word), h("td", { class: "strip" }, strip(this.state, table)));
    }
  }

  // A table's page

  function tile(label, value, note) { return h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, value, note ? h("small", {}, note) : null)); }
  function dayTile(label, moment) {
    if (!moment) return tile(label, "–");
    const at = Date.parse(moment);
    return tile(label, dayOf(at), `${timeOf(at)} UTC`);
  }
  function grid(caption, heads, rows, limited = true) {
    const body = h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) => h(at ? "td" : "th", { scope: at ? null : "row", class: heads[at][1] === WIDE ? "wide" : heads[at][1] ? "num" : null, "data-label": at ? heads[at][0] : null }, cell)))));
    const table = h("table", { class: "cards" }, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads.map(([text, number]) => h("th", { scope: "col", class: number === 1 ? "num" : null }, text)))), body);
    const whole = h("div", { class: "scroll" }, table);
    return limited ? h("div", {}, whole, limit(body)) : whole;
  }
  // Hide all but the first rows of a long table, and return the button that shows them.
  function limit(body) {
    const rest = [...body.rows].slice(FIRST);
    if (rest.length < 4) return "";
    for (const row of rest) row.hidden = true;
    const button = h("button", { class: "more", type: "button", on: { click: () => { for (const row of rest) row.hidden = false; rest[0].querySelector("th").tabIndex = -1; rest[0].querySelector("th").focus(); button.remove(); } } }, `Show all ${count(body.rows.length)}`);
    return button;
  }
  function tablePage(view, section, state, table) {
    const now = table.now, gone = table.last === DROPPED, last = STATES[table.last];
    view.setAttribute("aria-labelledby", "table-title");
    view.replaceChildren(
      h("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "All databases"), h("a", { href: `#/${state.slug}` }, section.dataset.title)),
      h("h1", { id: "table-title" }, table.label), h("p", { class: "sub" }, `${last[2]}${now && now.detail ? `: ${now.detail}` : ""}`),
      now && now.comment ? h("p", { class: "remark" }, now.comment) : "",
      h("dl", { class: "tiles" }, tile("Rows", count(table.rows)), tile("Landed", size(table.stored), now ? `${size(now.raw)} as lines` : ""),
        tile("Objects", now ? count(now.objectCount) : "–", now ? now.encoding : ""), tile("Changed", `${table.changed} of ${table.looked}`, "nights that looked at it"),
        dayTile("Data of", now && now.asOf), dayTile("Last change", now && now.changedAt)),
      h("h2", {}, "Nights"), h("div", { class: "chart", style: "min-height: 0; padding: 12px" }, strip(state, table), h("p", { class: "key", style: "justify-content: space-between" }, h("span", {}, state.runs[0].label), h("span", {}, state.runs[state.runs.length - 1].label))), key(),
      h("div", { class: "pair" }, h("figure", {}, h("figcaption", {}, h("h2", {}, "Rows")), h("div", { class: "chart", id: "table-rows" })),
        h("figure", {}, h("figcaption", {}, h("h2", {}, "Chunks changed")), h("div", { class: "chart", id: "table-chunks" }))),
      ...columnParts(now), ...changeParts(state, table), ...nightParts(state, table), ...objectParts(gone ? null : now),
    );
    const rows = series(state, table, "rows", "rowsBefore");
    const points = state.runs.map((run, at) => ({ x: run.label, value: rows[at], tip: `${run.label}: ${count(rows[at])} rows` })).filter((one, at) => one.value !== null && state.cells[at]);
    const held = series(state, table, "chunks", "chunksBefore");
    const chunks = state.runs.flatMap((run, at) => {
      const night = table.nights.get(at), read = night && [CHANGED, NEW].includes(table.cells[at]) ? night.read : 0, all = held[at] ?? 0;
      if (!state.cells[at] || [ABSENT, DROPPED].includes(table.cells[at])) return [];
      const text = `${run.label}: ${count(read)} of ${count(all)} chunks changed`;
      return [part(run.label, "changed", 0, read, text), part(run.label, "unchanged", 1, Math.max(0, all - read), text)];
    });
    chartOrNote($("#table-rows", view), points, "A line: rows of the table by night", () => line(points, NUMBERS));
    chartOrNote($("#table-chunks", view), chunks, "Bars: chunks that changed by night", () => parts(chunks, NUMBERS));
  }
  function chartOrNote(place, values, description, spec) {
    if (values.length) draw(place, description, spec());
    else place.replaceChildren(h("p", { class: "empty" }, "Nothing is known in these nights."));
  }
  function columnParts(now) {
    if (!now || !now.columns.length) return [];
    const uses = (name) => [now.key.includes(name) ? "primary key" : "", ...now.unique.filter((one) => one.includes(name)).map((one) => one.length > 1 ? `unique (${one.join(", ")})` : "unique")].filter(Boolean).join(", ");
    const rows = now.columns.map(([name, type, nullable, comment]) => [name, h("code", {}, type), nullable ? "yes" : "no", uses(name), comment]);
    return [h("h2", {}, "Columns"), grid("The columns in their order", [["Column"], ["Type"], ["Null"], ["Key", WIDE], ["Comment", WIDE]], rows, false)];
  }
  function changeParts(state, table) {
    if (!table.changes.length) return [];
    const rows = [...table.changes].reverse().map((one) => [state.runs[one.run].label, KINDS[one.kind] ?? one.kind, one.column, [one.before, one.after].filter(Boolean).join(" → ")]);
    return [h("h2", {}, "Schema changes"), grid("Changes of this table's definition, newest first", [["Night"], ["Change"], ["Column"], ["From, to", WIDE]], rows)];
  }
  function nightParts(state, table) {
    const rows = [...table.nights].sort((a, b) => b[0] - a[0]).map(([run, night]) => {
      const known = night.rows !== null && night.rowsBefore !== null, more = known ? night.rows - night.rowsBefore : 0;
      return [state.runs[run].label, STATES[table.cells[run]][2], count(night.rows), known ? (more > 0 ? `+${count(more)}` : more < 0 ? `−${count(-more)}` : "0") : "–", `${count(night.read)} of ${count(night.chunks)}`, size(night.moved), span(night.seconds), `${night.code}: ${night.detail}`];
    });
    if (!rows.length) return [];
    return [h("h2", {}, "News by night"), grid("Nights with news, newest first", [["Night"], ["State"], ["Rows", 1], ["More", 1], ["Chunks", 1], ["Moved", 1], ["Took", 1], ["Why", WIDE]], rows)];
  }
  function objectParts(now) {
    if (!now || !now.objectCount) return [];
    const most = Math.max(...now.layers.map((one) => one[2]), 1);
    const layers = [...now.layers].reverse().map(([moment, number, stored]) => [keyTime(moment), count(number), size(stored), h("span", { class: "level", style: `width: ${Math.max(1, Math.round(100 * stored / most))}%` })]);
    const objects = now.objects.map(([name, rows, raw, stored]) => [h("code", {}, name), count(rows), size(raw), size(stored)]);
    const more = now.objectCount - objects.length;
    return [h("h2", {}, "Objects by the run that wrote them"), grid("Objects by the run that wrote them, newest first", [["Written (UTC)"], ["Objects", 1], ["Size", 1], ["Share", WIDE]], layers),
      h("h2", {}, "Objects"), grid("Objects of the newest snapshot", [["Key"], ["Rows", 1], ["As lines", 1], ["Landed", 1]], objects),
      more > 0 ? h("p", { class: "sub" }, `and ${count(more)} more; \`floodmark show\` lists all of them`) : ""];
  }

  // Routes: #/ is the front page, #/database one database, #/database/schema/table one table

  const sections = $$("section.view"), front = sections[0], page = $("#table");
  // Without a script, a hash leads to the section with that id. With it, the browser must not scroll there.
  for (const one of sections.slice(0, -1)) one.removeAttribute("id");
  const databases = new Map(sections.filter((one) => one.dataset.slug).map((one) => [one.dataset.slug, one]));
  function show(section, title) {
    for (const one of sections) one.hidden = one !== section;
    document.title = title ? `${visible(title)} – Floodmark report` : "Floodmark report";
  }
  async function route() {
    tipBox.hidden = true;
    const [slug, schema, name] = location.hash.replace(/^#\/?/, "").split("/");
    const section = databases.get(slug);
    if (!section) {
      show(front, "");
      for (const place of $$(".chart", front)) await frontChart(place);
    } else if (name === undefined || !$("script.data", section)) {
      show(section, section.dataset.title);
      await openDatabase(section);
    } else await openTable(section, decoded(schema), decoded(name));
    document.documentElement.dataset.ready = location.hash || "#/";
  }
  const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
  async function openDatabase(section) {
    if (!$("script.data", section)) return;
    const state = await load(section);
    const place = $(".tables", section);
    if (place && !place.firstChild && state.tables.length) new TableList(place, state);
    for (const chart of $$(".chart", section)) await charts[chart.dataset.chart](chart, state);
  }
  async function openTable(section, schema, name) {
    const state = await load(section);
    const table = state.tables.find((one) => one.schema === schema && one.name === name);
    if (table) tablePage(page, section, state, table);
    else page.replaceChildren(h("h1", { id: "table-title" }, `${schema}.${name}`), h("p", {}, "No run in this report knows this table. "), h("p", {}, h("a", { href: `#/${state.slug}` }, `All tables of ${section.dataset.title}`)));
    show(page, `${schema}.${name}`);
  }
  function arrive() { route().then(() => { scrollTo(0, 0); $("#main").focus({ preventScroll: true }); }); }

  // Search over all databases and tables

  const search = $("#search"), found = $("#found"), told = $("#told");
  async function find() {
    const text = search.value.trim().toLowerCase();
    if (!text) { found.hidden = true; told.textContent = ""; return; }
    const hits = [];
    for (const [slug, section] of databases) {
      if (section.dataset.title.toLowerCase().includes(text)) hits.push([`#/${slug}`, section.dataset.title, "database"]);
      if ($("script.data", section)) for (const table of (await load(section)).tables) if (table.label.toLowerCase().includes(text)) hits.push([table.href, table.label, section.dataset.title]);
    }
    if (search.value.trim().toLowerCase() !== text) return;
    found.replaceChildren(...hits.slice(0, 40).map(([href, label, where]) => h("a", { href }, label, h("small", {}, where))), hits.length > 40 ? h("p", {}, `and ${count(hits.length - 40)} more`) : hits.length ? "" : h("p", {}, "nothing found"));
    found.hidden = false;
    told.textContent = `${count(hits.length)} found`;
  }
  search.disabled = false;
  search.addEventListener("input", find);
  let leaving = false;
  search.addEventListener("focus", () => leaving || find());
  document.addEventListener("click", (event) => { if (!event.target.closest(".search") || event.target.closest(".found a")) found.hidden = true; });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape") {
      found.hidden = leaving = true;
      if (event.target.closest(".search")) search.focus();
      leaving = false;
    }
    const links = $$("a", found), at = links.indexOf(document.activeElement);
    if (event.target.closest(".search") && !found.hidden && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault();
      (links[at + (event.key === "ArrowDown" ? 1 : -1)] ?? search).focus();
    }
  });

  // Tables that the page holds: the buttons in their headers sort them

  for (const table of $$("table.sortable")) {
    const heads = $$("thead th", table), body = $("tbody", table);
    heads.forEach((head, at) => {
      const button = $("button", head);
      if (!button) return;
      button.disabled = false;
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((one) => one.hasAttribute("aria-sort") && one.setAttribute("aria-sort", one === head ? (down ? "descending" : "ascending") : "none"));
        const value = (row) => { const text = row.children[at].dataset.sort ?? row.children[at].textContent; return head.classList.contains("num") || head.dataset.number !== undefined ? Number(text) : text.toLowerCase(); };
        const rows = [...body.rows].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
        body.append(...(down ? rows.reverse() : rows));
      });
    });
  }
  for (const body of $$("table.limited tbody")) body.closest(".scroll").after(limit(body));
  for (const link of $$("a.to-table")) link.href = `#/${link.closest("section.database").dataset.slug}/${encodeURIComponent(link.dataset.schema)}/${encodeURIComponent(link.dataset.name)}`;

  // The theme: the browser's own, or the one that the reader chose

  const theme = $("#theme"), themes = ["auto", "light", "dark"];
  const remembered = () => { try { return localStorage.getItem("floodmark-theme"); } catch { return null; } };
  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
    try { localStorage.setItem("floodmark-theme", name); } catch { /* the browser keeps nothing for this file */ }
  }
  theme.hidden = false;
  setTheme(themes.includes(remembered()) ? remembered() : "auto");
  theme.addEventListener("click", () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3]));

  addEventListener("hashchange", arrive);
  route().then(() => scrollTo(0, 0));
})();

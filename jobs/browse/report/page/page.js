// Puts the parts together: choosing, marking, filters, keys.

const atText = () => (chosen.row < 0 ? "" : `${result.names[chosen.video]}@${secondsText(result.segments.start_ms[chosen.row])}`);

const choose = (video, row, { extend = false } = {}) => {
  const before = chosen.video;
  Object.assign(chosen, { video, row, anchor: extend && video === before ? chosen.anchor : row });
  if (before >= 0 && before !== video) redraw(before);
  drawList();
  redraw(video);
  drawInspector();
  const box = byId("list");
  if (video < 0) box.removeAttribute("aria-activedescendant"); else box.setAttribute("aria-activedescendant", `video-${video}`);
  filterToAddress(atText());
  if (video < 0) return;
  reveal(video);
  drawList();
  if (row >= 0) say(`${labelOf(row)} ${confidence(row).toFixed(2)}, ${clock(result.segments.start_ms[row], true)} to ${clock(result.segments.end_ms[row], true)}`);
  else say(`${result.names[video]}: no segments`);
};

const chooseEvent = () => {
  if (chosen.row < 0) return;
  const [first, last] = eventAround(chosen.row);
  choose(chosen.video, last);
  chosen.anchor = first;
  redraw(chosen.video);
  drawInspector();
};

const stepVideo = (by) => {
  if (!shown.videos.length) return;
  const at = shown.place.get(chosen.video);
  const place = at === undefined ? 0 : Math.max(0, Math.min(shown.videos.length - 1, at + by));
  const video = shown.videos[place], ms = chosen.row < 0 ? 0 : result.segments.start_ms[chosen.row];
  choose(video, rowAt(video, at === undefined ? 0 : ms));
};

const stepSegment = (by, extend) => {
  if (chosen.row < 0) { stepVideo(0); return; }
  const row = Math.max(result.first[chosen.video], Math.min(result.first[chosen.video + 1] - 1, chosen.row + by));
  choose(chosen.video, row, { extend });
};

// The next or previous event of which the filters let a segment through.
const stepMoment = (by) => {
  const count = shown.videos.length;
  if (!count) return;
  let place = shown.place.get(chosen.video), row = -1;
  if (place === undefined) place = by > 0 ? -1 : count;
  else if (chosen.row >= 0) {
    const [first, last] = eventAround(chosen.row);
    row = by > 0 ? last + 1 : first - 1;
  }
  for (; ;) {
    const video = place >= 0 && place < count ? shown.videos[place] : -1;
    if (video >= 0 && row >= 0) {
      for (; row >= result.first[video] && row < result.first[video + 1]; row += by) {
        if (!shown.matches[row]) continue;
        choose(video, by > 0 ? row : Math.max(eventAround(row)[0], result.first[video]));
        return;
      }
    }
    place += by;
    if (place < 0 || place >= count) { say("No more moments."); return; }
    row = by > 0 ? result.first[shown.videos[place]] : result.first[shown.videos[place] + 1] - 1;
  }
};

// Marks each stretch of one label among the chosen segments.
const markChosen = (labelFor) => {
  if (chosen.row < 0) return;
  const [first, last] = chosenRows(), { label, start_ms: start, end_ms: end } = result.segments, name = result.name(chosen.video);
  for (let row = first; row <= last; row += 1) {
    const from = row;
    while (row < last && label[row + 1] === label[from] && start[row + 1] <= end[row] + 1) row += 1;
    const text = labelFor(result.labels[label[from]]);
    if (text === null) marks.clear(name, start[from], end[row]); else marks.put(name, start[from], end[row], text);
  }
  marksChanged();
  say(byId("marked").textContent);
};
const markRight = () => markChosen((label) => label);
const markWrong = () => markChosen((label) => DENIAL + label);
const clearMark = () => markChosen(() => null);
const markAs = (text) => {
  const label = text.replace(/\s+/g, " ").trim(), known = allLabels().find((one) => one.toLowerCase() === label.toLowerCase());
  if (!label) return;
  markChosen(() => known || label);
  byId("list").focus({ preventScroll: true });
};
const allLabels = () => [...new Set([...result.labels, ...marks.labels()])];

const marksChanged = () => {
  marks.unsaved += 1;
  marks.keep();
  if (result.isServed) saveToServer();
  drawMarkTools();
  if (chosen.video >= 0) { redraw(chosen.video); drawInspector(); }
};

const marksName = () => (result.isServed ? result.marksFile.split("/").pop() : "marks.csv");

const drawMarkTools = () => {
  const count = marks.count();
  const unknown = [...marks.byVideo.keys()].filter((name) => !result.number.has(name)).length;
  const others = unknown ? `, ${counted(unknown, "video")} not on this page` : "";
  const unsaved = marks.isKept ? ", not saved as a file" : ", not saved as a file, and this browser does not keep them";
  const state = result.isServed ? `, kept in ${marksName()}` : marks.unsaved ? unsaved : "";
  byId("mark-save").disabled = count === 0;
  byId("mark-count").textContent = count ? `${counted(count, "mark")} in ${counted(marks.byVideo.size, "video")}${others}${state}` : "No marks";
  byId("known").replaceChildren(...allLabels().sort().map((label) => element("option", { value: label })));
  byId("next").replaceChildren(...nextCommands().flatMap(([words, command]) => [element("p", {}, words), ...(command ? [commandLine(command)] : [])]),
    element("button", { type: "button", disabled: count === 0, onclick: forgetMarks }, "Remove all marks"));
};

const forgetMarks = () => {
  if (!confirm(`Remove ${counted(marks.count(), "mark")}?`)) return;
  marks.byVideo.clear();
  marksChanged();
  for (const video of list.rows.keys()) redraw(video);
};

// A page that is served keeps the marks in their file, so a person saves a copy of it.
const saveMarks = () => {
  if (!marks.count()) return;
  const url = URL.createObjectURL(new Blob([marks.csv()], { type: "text/csv" }));
  element("a", { href: url, download: marksName() }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  marks.unsaved = 0;
  drawMarkTools();
  say(result.isServed ? `A copy of ${marksName()} is saved.` : `${marksName()} is saved.`);
};

const loadMarks = async (file) => {
  try {
    const count = marks.load(await file.text());
    marksChanged();
    for (const video of list.rows.keys()) redraw(video);
    say(`${counted(count, "mark")} read.`);
  } catch (error) {
    alert(error.message);
  }
};

const FIELDS = { "f-min": "min", "f-ood": "ood", "f-name": "q", "f-from": "from", "f-to": "to", "f-show": "show", "f-sort": "sort" };

const showFilter = () => {
  for (const [id, name] of Object.entries(FIELDS)) byId(id).value = filter[name] === DEFAULTS[name] && !["f-show", "f-sort"].includes(id) ? "" : filter[name];
  byId("chips").replaceChildren(...[...filter.labels].map((label) => element("button", { type: "button", "aria-label": `Remove the filter ${label}`, onclick: () => { toggleLabel(label); byId("list").focus({ preventScroll: true }); } },
    swatch(result.labels.indexOf(label)), element("bdi", {}, visible(label)), " ×")));
  for (const row of document.querySelectorAll("tr[data-label]")) {
    const isOn = filter.labels.has(result.labels[row.dataset.label]);
    row.dataset.on = isOn;
    row.querySelector("button").setAttribute("aria-pressed", String(isOn));
  }
};

const applyFilter = () => {
  chooseVideos((name) => marks.byVideo.has(name));
  showFilter();
  const failed = shown.videos.length === result.size ? counted(result.size, "video") : `${grouped(shown.videos.length)} of ${counted(result.size, "video")}`;
  byId("count").textContent = `${failed} · ${counted(shown.segments, "segment")} · ${hours(shown.ms)}`;
  resetList();
  filterToAddress(atText());
};

const toggleLabel = (label) => {
  if (!filter.labels.delete(label)) filter.labels.add(label);
  applyFilter();
};

const readField = (id) => {
  const name = FIELDS[id], { value } = byId(id);
  if (name === "min" || name === "ood") {
    const number = Number(value);
    filter[name] = value === "" || !(number >= 0 && number <= 1) ? DEFAULTS[name] : number;
  } else filter[name] = value;
  const focused = byId(id).value;
  applyFilter();
  if (name === "min" || name === "ood") byId(id).value = focused;
};

const showTip = (event) => {
  const canvas = event.target.closest("canvas.bar"), tip = byId("tip");
  const video = canvas ? Number(canvas.parentElement.dataset.video) : -1;
  const row = canvas ? rowAtPlace(canvas, video, event.offsetX) : -1;
  tip.hidden = row < 0 || event.pointerType === "touch";
  if (tip.hidden) return;
  const { start_ms: start, end_ms: end } = result.segments, score = oodScore(row);
  tip.replaceChildren(element("p", {}, `${clock(start[row], true)} – ${clock(end[row], true)}${score === null ? "" : ` · OOD ${score.toFixed(2)}`}`),
    ...topLabels(row).slice(0, 5).map(([label, share], at) => element("div", { class: "top" }, element("span", {}, ...(at ? [] : [swatch(result.segments.label[row])]), element("bdi", {}, visible(label))), element("em", {}, share.toFixed(2)))));
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8), below = event.clientY + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below}px`;
};

const clickList = (event) => {
  const row = event.target.closest(".row");
  if (!row) return;
  const video = Number(row.dataset.video), canvas = event.target.closest("canvas.bar"), picture = event.target.closest("[data-row]");
  const segment = picture ? Number(picture.dataset.row) : canvas ? rowAtPlace(canvas, video, event.offsetX) : rowAt(video, 0);
  choose(video, segment, { extend: event.shiftKey });
  byId("list").focus({ preventScroll: true });
  if (canvas && !event.shiftKey && segment >= 0) play();
};

const togglePlay = () => {
  const { player, playing } = inspector;
  if (player && playing === chosen.video && !player.paused) player.pause(); else play();
};

const LIST_KEYS = {
  ArrowUp: () => stepVideo(-1), ArrowDown: () => stepVideo(1), PageUp: () => stepVideo(-10), PageDown: () => stepVideo(10),
  ArrowLeft: (event) => stepSegment(-1, event.shiftKey), ArrowRight: (event) => stepSegment(1, event.shiftKey),
  Home: (event) => stepSegment(-1e9, event.shiftKey), End: (event) => stepSegment(1e9, event.shiftKey), Enter: togglePlay,
};
const KEYS = {
  n: () => stepMoment(1), p: () => stepMoment(-1), e: chooseEvent, l: () => { if (byId("alike")) findAlike(); }, r: markRight, w: markWrong, c: clearMark, s: saveMarks,
  x: () => { const field = byId("is"); if (field) field.focus(); }, "/": () => { byId("filter-box").open = true; byId("f-label").focus(); }, "?": () => byId("keys").showModal(),
};

const onKey = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") { byId("list").focus({ preventScroll: true }); return; }
  if (isTyping) return;
  const work = (event.target === byId("list") && LIST_KEYS[event.key]) || KEYS[event.key.toLowerCase()];
  if (!work) return;
  event.preventDefault();
  work(event);
};

const listen = () => {
  byId("list").addEventListener("click", clickList);
  byId("list").addEventListener("pointermove", showTip);
  byId("list").addEventListener("pointerleave", () => { byId("tip").hidden = true; });
  document.addEventListener("keydown", onKey);
  let isWaiting = false;
  addEventListener("scroll", () => { if (!isWaiting) { isWaiting = true; requestAnimationFrame(() => { isWaiting = false; drawList(); byId("tip").hidden = true; }); } }, { passive: true });
  addEventListener("resize", () => { fit(); resetList(); });
  darkScheme.addEventListener("change", () => { readTheme(); drawSwatches(); resetList(); drawInspector(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const id of Object.keys(FIELDS)) byId(id).addEventListener("input", () => readField(id));
  const addLabel = () => { const label = allLabels().find((one) => one.toLowerCase() === byId("f-label").value.trim().toLowerCase()); if (result.labels.includes(label)) { byId("f-label").value = ""; if (!filter.labels.has(label)) toggleLabel(label); } };
  byId("f-label").addEventListener("change", addLabel);
  byId("f-reset").addEventListener("click", () => { Object.assign(filter, DEFAULTS); filter.labels.clear(); applyFilter(); });
  byId("mark-save").addEventListener("click", saveMarks);
  byId("mark-load").addEventListener("click", () => byId("mark-file").click());
  byId("mark-file").addEventListener("change", async (event) => { const [file] = event.target.files; if (file) await loadMarks(file); event.target.value = ""; });
  byId("mark-next").addEventListener("click", (event) => { const next = byId("next"); next.hidden = !next.hidden; event.currentTarget.setAttribute("aria-expanded", String(!next.hidden)); fit(); });
  byId("skip").addEventListener("click", () => byId("list").focus());
  byId("help").addEventListener("click", () => byId("keys").showModal());
  for (const row of document.querySelectorAll("tr[data-label]")) row.querySelector("button").addEventListener("click", () => toggleLabel(result.labels[row.dataset.label]));
  addEventListener("storage", (event) => {
    if (event.key !== marks.key || result.isServed) return;
    marks.byVideo.clear();
    marks.restore(marks.key);
    drawMarkTools();
    for (const video of list.rows.keys()) redraw(video);
  });
  addEventListener("hashchange", () => { const at = filterFromAddress(); applyFilter(); chooseAt(at); });
};

const drawSwatches = () => {
  for (const row of document.querySelectorAll("tr[data-label]")) {
    const old = row.querySelector(".swatch"), made = swatch(Number(row.dataset.label));
    if (old) old.replaceWith(made); else row.querySelector("button").before(made);
  }
};

const chooseAt = (at) => {
  const cut = at ? at.lastIndexOf("@") : -1, video = cut < 0 ? undefined : result.number.get(result.folder + at.slice(0, cut));
  if (video !== undefined) choose(video, rowAt(video, Math.round(Number(at.slice(cut + 1)) * 1000)));
};

const fit = () => document.documentElement.style.setProperty("--tools", `${byId("tools").offsetHeight}px`);

const begin = async () => {
  if (!window.DecompressionStream) { byId("loading").textContent = "This browser is too old for the timelines: it has no DecompressionStream."; return; }
  await readResult();
  await thumbnails.read();
  readTheme();
  marks.restore(`vtag marks ${result.tags}`, result.given);
  if (result.isServed) await loadFromServer();
  const at = filterFromAddress();
  byId("loading").remove();
  byId("tools").hidden = byId("main").hidden = false;
  if (innerWidth <= 700 && !location.hash) byId("filter-box").open = false;
  listen();
  drawSwatches();
  drawMarkTools();
  drawInspector();
  applyFilter();
  fit();
  chooseAt(at);
  document.documentElement.dataset.ready = "true";
};

begin().catch((error) => {
  byId("loading").textContent = `The timelines cannot be shown: ${error.message}`;
  throw error;
});

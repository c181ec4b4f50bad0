// Marks: stretches of videos with a label, or "not LABEL". They stay in the browser, and are saved as marks.csv.
// A later mark replaces what it covers of earlier ones, so no two marks of a video overlap.

const DENIAL = "not ";
const marks = {
  byVideo: new Map(),
  key: "",
  unsaved: 0,
  isKept: true,

  isDenial: (label) => label.toLowerCase().startsWith(DENIAL) && !result.labels.includes(label),
  of: (video) => marks.byVideo.get(video) || [],
  count: () => [...marks.byVideo.values()].reduce((sum, list) => sum + list.length, 0),
  labels: () => new Set([...marks.byVideo.values()].flat().map(({ label }) => (marks.isDenial(label) ? label.slice(DENIAL.length) : label))),

  // What is left of a mark is kept if it is at least as long as a window: it stands for a segment then.
  clear(video, start, end) {
    const shortest = result.windowMs - 2;
    const left = marks.of(video).flatMap((mark) => {
      if (mark.end <= start + 1 || mark.start >= end - 1) return [mark];
      return [{ ...mark, end: start }, { ...mark, start: end }].filter((part) => part.end - part.start >= shortest);
    });
    if (left.length) marks.byVideo.set(video, left); else marks.byVideo.delete(video);
  },

  // Where windows overlap, marks of one label become one.
  put(video, start, end, label) {
    for (const mark of marks.at(video, start, end)) {
      if (mark.label === label) { start = Math.min(start, mark.start); end = Math.max(end, mark.end); }
    }
    marks.clear(video, start, end);
    const list = [...marks.of(video), { start, end, label }].sort((one, other) => one.start - other.start);
    marks.byVideo.set(video, list);
  },

  at: (video, start, end) => marks.of(video).filter((mark) => mark.end > start + 1 && mark.start < end - 1),

  csv() {
    const lines = ["video,start_s,end_s,label"];
    for (const [video, list] of [...marks.byVideo].sort(([one], [other]) => (one < other ? -1 : 1))) {
      for (const { start, end, label } of list) lines.push([csvCell(video), secondsText(start), secondsText(end), csvCell(label)].join(","));
    }
    return `${lines.join("\n")}\n`;
  },

  // Returns the marks of a file, or throws an error with a sentence for a person.
  read(text) {
    const [head, ...rows] = csvRows(text);
    const names = (head || []).map((name) => name.trim().toLowerCase());
    const place = Object.fromEntries(["video", "start_s", "end_s", "label"].map((name) => [name, names.indexOf(name)]));
    const missing = Object.keys(place).filter((name) => place[name] < 0);
    if (missing.length) throw new Error(`The file has no column ${missing.join(", ")}.`);
    const number = (cell) => (cell && cell.trim() ? Math.round(Number(cell.replace(",", ".")) * 1000) : NaN);
    // Files of vtag export have the times of players, and the part of them that is before the first frame.
    const before = (row) => (names.includes("stream_start_s") ? number(row[names.indexOf("stream_start_s")] || "0") : 0);
    const found = [];
    rows.forEach((row, at) => {
      const label = (row[place.label] || "").trim(), start = number(row[place.start_s]) - before(row), end = number(row[place.end_s]) - before(row);
      if (!label) return;
      if (!row[place.video] || !(start >= 0) || !(end > start)) throw new Error(`Row ${at + 2} of the file is no mark.`);
      found.push([row[place.video], start, end, label]);
    });
    return found;
  },

  // Adds the marks of a file. Returns how many.
  load(text) {
    const found = marks.read(text);
    for (const mark of found) marks.put(...mark);
    return found.length;
  },

  keep() {
    try { localStorage.setItem(marks.key, marks.csv()); marks.isKept = true; } catch { marks.isKept = false; }
  },

  // Reads the marks that the browser keeps. If it keeps none, marks stay until the page is closed. Marks that came with
  // the page are added once, below those that the browser keeps: later they may have been cleared.
  restore(key, given = null) {
    marks.key = key;
    const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
    const isNew = given && stored(`${key} given`) !== given.version;
    if (isNew) for (const mark of given.rows) marks.put(...mark);
    try { marks.load(stored(key) || "video,start_s,end_s,label\n"); } catch { /* Nothing that this page wrote. */ }
    if (!isNew) return;
    marks.keep();
    try { localStorage.setItem(`${key} given`, given.version); } catch { /* They are added again when the page is opened. */ }
  },
};

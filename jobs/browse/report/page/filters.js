// What is shown, and in which order. The state is in the address, so a view can be sent as a link.

const DEFAULTS = { min: 0, ood: 1, q: "", from: "", to: "", show: "all", sort: "name" };
const filter = { ...DEFAULTS, labels: new Set() };
const shown = { videos: new Uint32Array(0), place: new Map(), matches: new Uint8Array(0), hasMatch: new Uint8Array(0), segments: 0, ms: 0 };

const filterFromAddress = () => {
  const values = new URLSearchParams(location.hash.slice(1));
  Object.assign(filter, DEFAULTS);
  for (const name of Object.keys(DEFAULTS)) if (values.has(name)) filter[name] = values.get(name);
  for (const name of ["min", "ood"]) { const number = Number(filter[name]); filter[name] = number >= 0 && number <= 1 ? number : DEFAULTS[name]; }
  filter.labels = new Set(values.getAll("label").filter((label) => result.labels.includes(label)));
  return values.get("at");
};

const filterToAddress = (at) => {
  const values = new URLSearchParams();
  for (const label of filter.labels) values.append("label", label);
  for (const [name, usual] of Object.entries(DEFAULTS)) if (filter[name] !== usual) values.set(name, filter[name]);
  if (at) values.set("at", at);
  // Browsers refuse more than some hundred changes in ten seconds, as when a key is held down.
  try { history.replaceState(null, "", `#${values}`); } catch { /* The next change sets the whole address. */ }
};

const matchSegments = () => {
  const { label, confidence: confidences, ood_score: ood } = result.segments;
  const rows = label.length, matches = new Uint8Array(rows);
  const isWanted = new Uint8Array(result.labels.length);
  result.labels.forEach((name, number) => { isWanted[number] = filter.labels.size ? filter.labels.has(name) : number !== result.background; });
  const lowest = Math.round(filter.min * 10000) - 0.5, highest = filter.ood * 1000, hasOod = filter.ood < 1;
  shown.hasMatch = new Uint8Array(result.size);
  for (let video = 0; video < result.size; video += 1) {
    for (let row = result.first[video]; row < result.first[video + 1]; row += 1) {
      if (!isWanted[label[row]] || confidences[row] < lowest || (hasOod && (ood[row] < 0 || ood[row] > highest))) continue;
      matches[row] = 1;
      shown.hasMatch[video] = 1;
    }
  }
  shown.matches = matches;
};

const dayMs = (text, isEnd) => { const ms = Date.parse(`${text}T00:00:00`); return Number.isNaN(ms) ? null : ms + (isEnd ? 864e5 : 0); };

const keepVideos = (isMarked) => {
  const { status, mtime_s: mtime } = result.videos;
  const needsMatch = filter.labels.size > 0 || filter.min > 0 || filter.ood < 1;
  const text = filter.q.toLowerCase(), from = dayMs(filter.from, false), to = dayMs(filter.to, true);
  const kept = [];
  for (let video = 0; video < result.size; video += 1) {
    if (text && !result.name(video).toLowerCase().includes(text)) continue;
    if (from !== null && mtime[video] * 1000 < from) continue;
    if (to !== null && mtime[video] * 1000 >= to) continue;
    if (filter.show === "unread" && status[video] === 0) continue;
    if (filter.show === "marked" && !isMarked(result.name(video))) continue;
    if (needsMatch && !shown.hasMatch[video]) continue;
    kept.push(video);
  }
  return kept;
};

// What videos are sorted by, the smallest first.
const sortKey = () => {
  const { first, videos: { mtime_s: mtime }, segments } = result;
  const over = (begin, step) => (video) => {
    let value = begin;
    for (let row = first[video]; row < first[video + 1]; row += 1) if (shown.matches[row]) value = step(value, row, video);
    return value;
  };
  const second = segments.other_confidence_0 || [];
  return {
    date: (video) => -mtime[video],
    length: (video) => -result.lengthMs(video),
    best: over(0, (value, row) => Math.min(value, -segments.confidence[row])),
    time: over(0, (value, row, video) => value - stretchMs(row, video)),
    doubt: over(2e4, (value, row) => Math.min(value, segments.confidence[row] - Math.max(0, (second[row] || 1) - 1) * 100)),
  }[filter.sort];
};

const chooseVideos = (isMarked) => {
  matchSegments();
  const kept = keepVideos(isMarked), key = sortKey();
  if (key) {
    const keys = new Map(kept.map((video) => [video, key(video)]));
    kept.sort((one, other) => keys.get(one) - keys.get(other) || one - other);
  }
  shown.videos = Uint32Array.from(kept);
  shown.place = new Map(kept.map((video, place) => [video, place]));
  shown.segments = 0;
  shown.ms = 0;
  for (const video of kept) {
    for (let row = result.first[video]; row < result.first[video + 1]; row += 1) {
      if (!shown.matches[row]) continue;
      shown.segments += 1;
      shown.ms += stretchMs(row, video);
    }
  }
};

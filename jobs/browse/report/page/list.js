// The list of videos: only the rows on the screen exist.

const AHEAD = 6;
const list = { rows: new Map(), height: 0 };

const thumbnails = {
  byVideo: new Map(),
  urls: new Map(),

  async read() {
    if (!byId("data-thumbnails")) return;
    const [, { row, size }] = await unpack("data-thumbnails");
    const content = result.isServed ? null : blockBytes("data-pictures");
    let at = 0;
    row.forEach((number, i) => {
      const video = videoOf(number);
      if (!thumbnails.byVideo.has(video)) thumbnails.byVideo.set(video, []);
      thumbnails.byVideo.get(video).push(content ? { row: number, bytes: content.subarray(at, at + size[i]) } : { row: number, url: `picture/${number}` });
      if (content) at += size[i];
    });
  },

  of: (video) => thumbnails.byVideo.get(video) || [],

  // A page that is served asks for its pictures. Others have them as bytes.
  url({ row, bytes, url }) {
    if (url) return url;
    if (!thumbnails.urls.has(row)) thumbnails.urls.set(row, URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
    return thumbnails.urls.get(row);
  },

  // The picture of a segment, or else of the nearest one of its event.
  nearest(video, row) {
    const [first, last] = eventAround(row);
    const found = thumbnails.of(video).filter((one) => one.row >= first && one.row <= last);
    found.sort((one, other) => Math.abs(one.row - row) - Math.abs(other.row - row));
    return found.length ? thumbnails.url(found[0]) : null;
  },
};

const videoFacts = (video) => {
  const { duration_ms: duration, mtime_s: mtime, width, height, codec } = result.videos, facts = [];
  if (duration[video]) facts.push(clock(duration[video]));
  if (mtime[video] > -1e10) facts.push(dayText(mtime[video]));
  if (codec[video]) facts.push(result.codecs[codec[video] - 1]);
  if (width[video]) facts.push(`${width[video]}×${height[video]}`);
  return facts;
};

const makeRow = (video, place) => {
  const name = result.names[video], cut = name.lastIndexOf("/") + 1;
  const full = visible(result.name(video));
  const isFailed = result.videos.status[video] === 2;
  const facts = element("span", { class: "more" }, videoFacts(video).join(" · "));
  const label = element("div", { class: "name", title: full },
    element("bdi", { class: "file" }, visible(name.slice(cut))),
    result.videos.status[video] ? element("span", { class: "problem" }, isFailed ? `not read: ${result.kinds[result.videos.kind[video] - 1]}` : `read in part: ${result.kinds[result.videos.kind[video] - 1]}`) : facts,
    element("span", { class: "more folder" }, pathOf(name.slice(0, cut))));
  const canvas = element("canvas", { class: "bar", "aria-hidden": "true" });
  const pictures = thumbnails.of(video).map((one) => element("button", { type: "button", tabindex: "-1", "data-row": one.row },
    element("img", { loading: "lazy", onerror: (event) => event.target.parentElement.remove(), src: thumbnails.url(one), alt: `${visible(labelOf(one.row))} at ${clock(result.segments.start_ms[one.row])}`, title: `${visible(labelOf(one.row))} ${confidence(one.row).toFixed(2)} at ${clock(result.segments.start_ms[one.row])}` })));
  const row = element("div", { class: "row", role: "option", id: `video-${video}`, "data-video": video, "aria-setsize": shown.videos.length, "aria-posinset": place + 1, "aria-label": `${full}, ${videoFacts(video).join(", ")}` },
    label, canvas, element("div", { class: "thumbs" }, ...pictures));
  row.style.top = `${place * list.height}px`;
  return row;
};

const visiblePlaces = () => {
  const top = byId("list").getBoundingClientRect().top, from = Math.floor(-top / list.height) - AHEAD;
  const to = Math.ceil((innerHeight - top) / list.height) + AHEAD;
  return [Math.max(0, from), Math.min(shown.videos.length, to)];
};

const drawList = () => {
  const box = byId("list"), [from, to] = visiblePlaces();
  const wanted = new Set();
  for (let place = from; place < to; place += 1) wanted.add(shown.videos[place]);
  if (chosen.video >= 0 && shown.place.has(chosen.video)) wanted.add(chosen.video);
  for (const [video, row] of list.rows) if (!wanted.has(video)) { row.remove(); list.rows.delete(video); }
  for (const video of wanted) {
    if (list.rows.has(video)) continue;
    const row = makeRow(video, shown.place.get(video));
    list.rows.set(video, row);
    box.append(row);
    drawTimeline(row.querySelector("canvas"), video);
    row.setAttribute("aria-selected", String(video === chosen.video));
  }
};

// Draws the list anew, after other filters or another width.
const resetList = () => {
  const box = byId("list");
  box.classList.toggle("bare", thumbnails.byVideo.size === 0);
  for (const row of list.rows.values()) row.remove();
  list.rows.clear();
  list.height = parseFloat(getComputedStyle(box).getPropertyValue("--row"));
  box.style.height = `${Math.max(1, shown.videos.length) * list.height}px`;
  const none = byId("none");
  if (none) none.remove();
  if (!shown.videos.length) box.append(element("p", { class: "none", id: "none" }, "No video matches the filters."));
  drawList();
};

const redraw = (video) => {
  const row = list.rows.get(video);
  if (!row) return;
  row.setAttribute("aria-selected", String(video === chosen.video));
  drawTimeline(row.querySelector("canvas"), video);
};

const reveal = (video) => {
  const place = shown.place.get(video);
  if (place === undefined) return;
  const head = getComputedStyle(byId("tools")).position === "sticky" ? byId("tools").offsetHeight : 0;
  const top = byId("list").getBoundingClientRect().top + place * list.height;
  const floor = innerHeight - (innerWidth <= 700 ? byId("inspector").offsetHeight : 0);
  if (top < head) scrollBy(0, top - head);
  else if (top + list.height > floor) scrollBy(0, top + list.height - floor);
};

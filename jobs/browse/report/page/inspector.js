// The chosen moment: its picture or video, its labels, and the buttons that mark it.

const chosen = { video: -1, row: -1, anchor: -1 };
const chosenRows = () => (chosen.row < 0 ? [] : [Math.min(chosen.row, chosen.anchor), Math.max(chosen.row, chosen.anchor)]);

const inspector = { player: null, playing: -1 };

const drawInspector = () => {
  const place = byId("inspector"), { video, row } = chosen, focused = place.contains(document.activeElement) ? document.activeElement : null;
  // The parts are new ones: the focus goes to the one in the place of the old, or else to the list.
  const keepFocus = () => {
    if (!focused) return;
    const next = (focused.id && place.querySelector(`#${focused.id}`)) || byId("list");
    if (focused.id === "is" && next.id === "is") next.value = focused.value;
    next.focus({ preventScroll: true });
  };
  if (video < 0) { place.replaceChildren(element("p", { class: "hint", id: "hint" }, "Choose a moment on a timeline. ", element("kbd", {}, "?"), " shows the keys.")); keepFocus(); return; }
  const parts = [element("button", { type: "button", id: "close", onclick: () => choose(-1, -1) }, "Close")];
  if (row < 0) {
    parts.push(element("h2", {}, pathOf(result.names[video])), ...problemOf(video));
  } else {
    parts.push(...momentParts(video, row));
  }
  const hadPlayer = inspector.player && inspector.playing === video;
  if (!hadPlayer) stopPlayer();
  place.replaceChildren(...parts);
  keepFocus();
};

const problemOf = (video) => {
  const error = result.errors[video];
  return error ? [element("p", { class: "warning" }, error)] : [];
};

const momentParts = (video, row) => {
  const [first, last] = chosenRows(), { start_ms: start, end_ms: end } = result.segments;
  const score = oodScore(row), range = `${clock(start[first], true)} – ${clock(end[last], true)}`;
  const several = last > first ? `, ${last - first + 1} segments` : "";
  return [
    element("h2", {}, swatch(result.segments.label[row]), element("bdi", {}, visible(labelOf(row))), ` ${confidence(row).toFixed(2)}`),
    element("p", { class: "where" }, `${range}${several}`, element("br"), pathOf(result.names[video])),
    screenOf(video, row),
    element("div", { class: "buttons" }, element("button", { type: "button", id: "play", onclick: () => play() }, "Play from here"),
      element("button", { type: "button", id: "event", onclick: () => chooseEvent() }, "Whole event")),
    markButtons(video, first, last),
    element("div", { class: "tops" }, ...topLabels(row).map(topLine),
      ...(score === null ? [] : [element("div", { class: "top" }, element("span", {}, "OOD score"), barOf(score), element("em", {}, score.toFixed(2)))])),
    ...problemOf(video),
    ...alikeParts(),
    ...commandsOf(video, row),
  ];
};

// What looks like a moment, found by the server. It stays while other moments are chosen.
const alike = { of: "", rows: null, words: "", row: -1 };
const findAlike = async () => {
  const { video, row } = chosen;
  if (row < 0) return;
  const search = { of: `${labelOf(row)} at ${clock(result.segments.start_ms[row])} in ${result.names[video]}`, rows: null, words: "Searching …", row };
  Object.assign(alike, search);
  drawInspector();
  try {
    const answer = await fetch(`like/${row}`);
    if (answer.ok) Object.assign(search, { rows: await answer.json(), words: "" }); else search.words = await answer.text();
  } catch (error) {
    search.words = `vtag view does not answer: ${error.message}`;
  }
  // Another search may have begun.
  if (alike.row !== row) return;
  Object.assign(alike, search);
  drawInspector();
};
const alikeParts = () => {
  if (!result.isServed || !result.hasEmbeddings) return [];
  const found = (alike.rows || []).map(([row, similarity]) => element("button", { type: "button", class: "found", onclick: () => choose(videoOf(row), row) },
    element("img", { src: `picture/${row}`, alt: "", loading: "lazy" }), element("span", {}, element("bdi", {}, visible(labelOf(row))), ` ${similarity.toFixed(2)}`)));
  return [element("div", { class: "buttons" }, element("button", { type: "button", id: "alike", "aria-keyshortcuts": "L", onclick: findAlike }, "More like this ", element("kbd", {}, "L"))),
    ...(alike.of ? [element("p", { class: "hint" }, element("bdi", {}, visible(alike.words || `Like ${alike.of}`)))] : []), element("div", { class: "alike" }, ...found)];
};

const commandsOf = (video, row) => [
  ["More like this", result.hasEmbeddings ? likeCommand(video, row) : null],
  ["In a player", playCommand(video, row)],
].filter(([, command]) => command).map(([words, command]) => element("div", {}, element("p", { class: "hint" }, words), commandLine(command)));

const barOf = (share) => {
  const bar = element("b");
  bar.style.width = `${Math.min(1, share) * 100}%`;
  return element("i", {}, bar);
};
const topLine = ([label, share]) => element("div", { class: "top" }, element("span", {}, element("bdi", {}, visible(label))), barOf(share), element("em", {}, share.toFixed(2)));

const markButtons = (video, first, last) => {
  const { start_ms: start, end_ms: end } = result.segments;
  const found = marks.at(result.name(video), start[first], end[last]);
  const is = (test) => String(found.length > 0 && found.every(test));
  const button = (text, key, work, pressed) => element("button", { type: "button", id: text.toLowerCase(), "aria-keyshortcuts": key, "aria-pressed": pressed, onclick: work }, `${text} `, element("kbd", {}, key));
  const label = labelOf(chosen.row);
  return element("div", {},
    element("div", { class: "buttons", role: "group", "aria-label": "Mark this moment" },
      button("Right", "R", () => markRight(), is((mark) => mark.label === label)),
      button("Wrong", "W", () => markWrong(), is((mark) => marks.isDenial(mark.label))),
      button("Clear", "C", () => clearMark(), null)),
    element("form", { onsubmit: (event) => { event.preventDefault(); const field = byId("is"), text = field.value; field.value = ""; markAs(text); } },
      element("input", { id: "is", list: "known", autocomplete: "off", placeholder: "it is … (X)", "aria-label": "It is another label" }),
      element("button", {}, "Mark")),
    element("p", { class: "hint", id: "marked" }, found.length ? `Marked: ${[...new Set(found.map((mark) => visible(mark.label)))].join(", ")}` : "Not marked."));
};

const screenOf = (video, row) => {
  if (inspector.player && inspector.playing === video) return inspector.screen;
  const picture = thumbnails.nearest(video, row);
  return picture ? element("img", { class: "still", alt: "", src: picture }) : "";
};

const stopPlayer = () => {
  if (inspector.player) { inspector.player.pause(); inspector.player.removeAttribute("src"); inspector.player.load(); }
  Object.assign(inspector, { player: null, screen: null, playing: -1 });
};

const play = () => {
  const { video, row } = chosen;
  if (row < 0) return;
  const from = playerMs(video, row), url = videoUrl(video);
  if (inspector.player && inspector.playing === video && !inspector.isPreview) { inspector.player.currentTime = from / 1000; inspector.player.play().catch(() => {}); return; }
  stopPlayer();
  const player = element("video", { controls: true, playsinline: true, preload: "metadata", muted: true });
  player.muted = true;
  const screen = element("div", {}, player);
  Object.assign(inspector, { player, screen, playing: video, isPreview: false });
  player.addEventListener("loadedmetadata", () => {
    if (inspector.player !== player) return;
    // Without a picture, the browser plays the sound alone of a video that it does not know.
    if (!player.videoWidth) { cannotPlay(video, row); return; }
    if (!inspector.isPreview) player.currentTime = from / 1000;
    player.play().catch(() => {});
  });
  player.addEventListener("error", () => { if (inspector.player === player) cannotPlay(video, row); });
  if (url === null) cannotPlay(video, row); else player.src = url;
  drawInspector();
};

const cannotPlay = (video, row) => {
  const { player, screen } = inspector;
  if (!player || !screen) return;
  if (result.isServed && !inspector.isPreview && result.isLocal(result.name(video))) {
    inspector.isPreview = true;
    player.src = previewUrl(video, row);
    screen.append(element("p", { class: "hint" }, "This browser cannot play the file, so this is a preview of the moment, encoded again."));
    return;
  }
  const hint = result.isServed || !result.isLocal(result.name(video)) ? "" : ` Or give vtag view, which plays every file: vtag view ${tags()}`;
  const command = playCommand(video, row);
  screen.replaceChildren(element("p", { class: "warning" }, `This browser cannot play the video from here.${command ? " A player can:" : ""}`), ...(command ? [commandLine(command)] : []), element("p", { class: "hint" }, hint));
  inspector.player = null;
};

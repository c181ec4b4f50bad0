"use strict";
const COLOURS = ["#2f7dd1", "#d9822b", "#2e9e6b", "#b5479d", "#8a7a1f", "#c2463f", "#4aa3a8", "#7a5bd0"];
const MINUTE_S = 60;
const SVG = "http://www.w3.org/2000/svg";
const of = (id) => document.getElementById(id);
const colours = new Map();
const colour = (label) => {
  if (!colours.has(label)) colours.set(label, COLOURS[colours.size % COLOURS.length]);
  return colours.get(label);
};
const box = (x, width, height, label) => {
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ x, y: 0, width, height, fill: colour(label) })) rect.setAttribute(name, value);
  const title = document.createElementNS(SVG, "title");
  title.textContent = label;
  rect.append(title);
  return rect;
};

let seen = 0;
const picture = of("picture");
const nextPicture = (after) => setTimeout(() => { picture.src = `picture?${seen += 1}`; }, after);
picture.addEventListener("load", () => nextPicture(150));
picture.addEventListener("error", () => nextPicture(1000));

const show = (state) => {
  of("label").textContent = state.label ?? "–";
  of("confidence").textContent = state.label === null ? "" : state.confidence.toFixed(2);
  of("note").textContent = state.note;
  of("frame").classList.toggle("lost", state.is_lost);
  const from = state.until_s - MINUTE_S;
  const at = (seconds) => Math.max(0, (seconds - from) / MINUTE_S * 600);
  of("minute").replaceChildren(...state.minute.map(([start, end, label]) => box(at(start), at(end) - at(start), 24, label)));
  of("legend").replaceChildren(...[...new Set(state.minute.map((each) => each[2]))].map((label) => {
    const item = document.createElement("li");
    const swatch = document.createElementNS(SVG, "svg");
    swatch.setAttribute("viewBox", "0 0 10 10");
    swatch.append(box(0, 10, 10, label));
    item.append(swatch, label);
    return item;
  }));
  of("changes").replaceChildren(...state.changes.map(([time, label, confidence]) => {
    const row = document.createElement("tr");
    for (const text of [new Date(time).toLocaleTimeString(), label ?? "–", confidence.toFixed(2)]) {
      row.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    return row;
  }));
};

const nextState = async () => {
  try {
    const answer = await fetch("state");
    show(await answer.json());
  } catch {
    of("note").textContent = "vtag watch has ended";
    of("frame").classList.add("lost");
  }
  setTimeout(nextState, 400);
};
nextPicture(0);
nextState();

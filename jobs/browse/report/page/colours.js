// A colour and a pattern for each label, by its rank in time: six colours that are told apart by people who see fewer
// colours (after Okabe and Ito, 2008), each plain, with slanting lines, with level lines, and with dots. Others are grey.

const LIGHT = ["#2f7fb8", "#d0733a", "#3a9c7b", "#c58aae", "#b3903f", "#7bbbe0"];
const DARK = ["#4a93c9", "#cf7d4c", "#46a688", "#c08eae", "#bd9b4e", "#8cc3e3"];
const PATTERNS = 4;
const darkScheme = matchMedia("(prefers-color-scheme: dark)");

const look = (label) => {
  const rank = result.rank[label], colours = darkScheme.matches ? DARK : LIGHT;
  const isGrey = label === result.background || rank >= colours.length * PATTERNS;
  return isGrey ? [darkScheme.matches ? "#7d8892" : "#8b949c", 0] : [colours[rank % colours.length], Math.floor(rank / colours.length)];
};

const swatch = (label) => {
  const [colour, pattern] = look(label), made = element("span", { class: `swatch pattern-${pattern}` });
  made.style.backgroundColor = colour;
  return made;
};

// The colours of the page itself.
const theme = {};
const readTheme = () => {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["bg", "fg", "soft", "line", "lane", "accent", "cut"]) theme[name] = style.getPropertyValue(`--${name}`).trim();
  fills.clear();
};

const fills = new Map();
const fillOf = (context, label) => {
  if (!fills.has(label)) {
    const [colour, pattern] = look(label);
    fills.set(label, pattern ? patternOf(context, colour, pattern) : colour);
  }
  return fills.get(label);
};

const patternOf = (context, colour, pattern) => {
  const tile = document.createElement("canvas"), size = 6;
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = pen.fillStyle = theme.cut;
  pen.lineWidth = 1.2;
  pen.beginPath();
  if (pattern === 1) for (const shift of [-size, 0, size]) { pen.moveTo(shift, size); pen.lineTo(shift + size, 0); }
  if (pattern === 2) { pen.moveTo(0, size / 2); pen.lineTo(size, size / 2); }
  pen.stroke();
  if (pattern === 3) pen.fillRect(2, 2, 2, 2);
  return context.createPattern(tile, "repeat");
};

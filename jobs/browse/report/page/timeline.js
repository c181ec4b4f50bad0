// Draws the timeline of a video: a bar for each segment, as high as it is confident, in the colour of its label. Labels
// are written above their events where there is room. Segments that the filters leave out are faint.

const TEXT = 13, BAR = 28, MARK = 7;
const font = (context, size) => { context.font = `${size}px system-ui, "Segoe UI", "DejaVu Sans", sans-serif`; };

const drawTimeline = (canvas, video) => {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (!width) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const scale = width / result.lengthMs(video), base = TEXT + BAR;
  context.fillStyle = theme.lane;
  context.fillRect(0, TEXT, width, BAR);
  drawGaps(context, video, scale);
  drawSegments(context, video, scale, width, base);
  drawEventNames(context, video, scale, width);
  drawMarks(context, video, scale, base);
  drawChosen(context, video, scale);
};

const drawGaps = (context, video, scale) => {
  context.strokeStyle = theme.soft;
  context.lineWidth = 1;
  for (const [start, end] of result.gaps[video] || []) {
    const left = start * scale, right = Math.max(left + 2, end * scale);
    context.save();
    context.beginPath();
    context.rect(left, TEXT, right - left, BAR);
    context.clip();
    context.beginPath();
    for (let x = left - BAR; x < right; x += 5) { context.moveTo(x, TEXT + BAR); context.lineTo(x + BAR, TEXT); }
    context.stroke();
    context.restore();
  }
};

// Of several segments in one pixel, the most confident one that the filters let through is drawn.
const drawSegments = (context, video, scale, width, base) => {
  const { start_ms: start, confidence: confidences, label } = result.segments;
  const begin = result.first[video], until = result.first[video + 1];
  const best = new Int32Array(Math.ceil(width) + 1).fill(-1);
  const strength = (row) => confidences[row] + (shown.matches[row] ? 20000 : 0);
  for (let row = begin; row < until; row += 1) {
    const x = Math.floor(start[row] * scale);
    if (best[x] < 0 || strength(row) > strength(best[x])) best[x] = row;
  }
  for (let x = 0; x < best.length; x += 1) {
    const row = best[x];
    if (row < 0) continue;
    const left = start[row] * scale, wide = stretchMs(row, video) * scale, right = left + Math.max(1, wide > 4 ? wide - 0.5 : wide);
    // Background is a thin line, unless it is what the filters ask for.
    const isAside = label[row] === result.background && !shown.matches[row];
    const share = confidences[row] / 10000, high = isAside ? 2 : Math.max(2, share * (BAR - 1));
    context.globalAlpha = shown.matches[row] ? 0.45 + 0.55 * share : 0.25;
    context.fillStyle = shown.matches[row] ? fillOf(context, label[row]) : theme.soft;
    context.fillRect(left, base - high, right - left, high);
  }
  context.globalAlpha = 1;
};

const drawEventNames = (context, video, scale, width) => {
  const { start_ms: start, label } = result.segments, until = result.first[video + 1];
  if ((until - result.first[video]) / width > 1) return;
  font(context, 11);
  context.fillStyle = theme.soft;
  context.textBaseline = "alphabetic";
  for (let row = result.first[video]; row < until; row += 1) {
    if (!shown.matches[row]) continue;
    let last = row;
    while (last + 1 < until && shown.matches[last + 1] && label[last + 1] === label[row]) last += 1;
    const left = start[row] * scale, room = (start[last] + stretchMs(last, video)) * scale - left - 5;
    const text = visible(result.labels[label[row]]);
    if (room > 24) {
      if (context.measureText(text).width <= room) context.fillText(text, left + 1, TEXT - 3);
      else if (room > 44) {
        let length = text.length - 1;
        while (length > 2 && context.measureText(`${text.slice(0, length)}…`).width > room) length -= 1;
        context.fillText(`${text.slice(0, length)}…`, left + 1, TEXT - 3);
      }
    }
    row = last;
  }
};

const drawMarks = (context, video, scale, base) => {
  font(context, 8);
  for (const { start, end, label } of marks.of(result.name(video))) {
    const left = start * scale, right = Math.max(left + 3, end * scale), isDenial = marks.isDenial(label);
    context.fillStyle = theme.fg;
    context.fillRect(left, base + 2, right - left - 1, 1.5);
    if (right - left < 8) continue;
    context.strokeStyle = theme.fg;
    context.lineWidth = 1.3;
    const middle = (left + right) / 2, top = base + 4;
    context.clearRect(middle - 5, base + 1, 10, MARK + 1);
    context.beginPath();
    if (isDenial) {
      context.moveTo(middle - 2.5, top - 2); context.lineTo(middle + 2.5, top + 3);
      context.moveTo(middle + 2.5, top - 2); context.lineTo(middle - 2.5, top + 3);
    } else {
      context.moveTo(middle - 3, top); context.lineTo(middle - 1, top + 2.5); context.lineTo(middle + 3, top - 2.5);
    }
    context.stroke();
  }
};

const drawChosen = (context, video, scale) => {
  if (chosen.video !== video || chosen.row < 0) return;
  const { start_ms: start, end_ms: end } = result.segments, [first, last] = chosenRows();
  const left = Math.max(1, start[first] * scale), right = Math.max(left + 3, end[last] * scale - 1);
  context.strokeStyle = theme.fg;
  context.lineWidth = 2;
  context.strokeRect(left, TEXT - 1, right - left, BAR + 1);
};

// The segment at a place of a timeline: the most confident one of that pixel that the filters let through.
const rowAtPlace = (canvas, video, x) => {
  const scale = canvas.clientWidth / result.lengthMs(video), { start_ms: start, confidence: confidences } = result.segments;
  const last = rowAt(video, x / scale);
  if (last < 0) return -1;
  let best = last;
  for (let row = last - 1; row >= result.first[video] && start[row] * scale > Math.floor(x); row -= 1) {
    if (confidences[row] + 2e4 * shown.matches[row] > confidences[best] + 2e4 * shown.matches[best]) best = row;
  }
  return best;
};

// The result: its videos, and its segments in columns. A segment is a row; those of video v are first[v] to first[v + 1] - 1.

const result = {};
const BACKGROUND = "background";

const readResult = async () => {
  const [facts, videos] = await unpack("data-videos");
  const [, segments] = await unpack("data-segments");
  Object.assign(result, facts, { videos, segments, size: facts.names.length });
  const first = new Uint32Array(result.size + 1);
  for (let video = 0; video < result.size; video += 1) first[video + 1] = first[video] + videos.segments[video];
  result.first = first;
  result.background = facts.labels.indexOf(BACKGROUND);
  result.lengthMs = (video) => Math.max(videos.duration_ms[video], first[video + 1] > first[video] ? segments.end_ms[first[video + 1] - 1] : 0, 1);
  result.name = (video) => facts.folder + facts.names[video];
  result.number = new Map(facts.names.map((name, video) => [facts.folder + name, video]));
  result.rank = new Int32Array(facts.labels.length).fill(facts.labels.length);
  facts.ranked.filter((label) => label !== result.background).forEach((label, rank) => { result.rank[label] = rank; });
};

const confidence = (row) => result.segments.confidence[row] / 10000;
const oodScore = (row) => { const score = result.segments.ood_score[row]; return score < 0 ? null : score / 1000; };
// The milliseconds from the start of a segment to the next one, or to its own end, which is earlier without overlap.
const stretchMs = (row, video) => {
  const { start_ms: start, end_ms: end } = result.segments;
  return (row + 1 < result.first[video + 1] ? Math.min(end[row], start[row + 1]) : end[row]) - start[row];
};
const labelOf = (row) => result.labels[result.segments.label[row]];
const videoOf = (row) => {
  let low = 0, high = result.size;
  while (high - low > 1) { const middle = (low + high) >> 1; if (result.first[middle] <= row) low = middle; else high = middle; }
  while (result.first[low + 1] <= row) low += 1;
  return low;
};

// The labels of a segment with their confidences, best first.
const topLabels = (row) => {
  const tops = [[labelOf(row), confidence(row)]];
  for (let place = 0; place < result.others; place += 1) {
    const label = result.segments[`other_${place}`][row];
    if (label > 0) tops.push([result.labels[label - 1], (result.segments[`other_confidence_${place}`][row] - 1) / 100]);
  }
  return tops;
};

// The last segment of a video that begins at or before a time; its first, if none does.
const rowAt = (video, ms) => {
  const { start_ms: start } = result.segments;
  let low = result.first[video], high = result.first[video + 1];
  if (low === high) return -1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (start[middle] <= ms) low = middle; else high = middle; }
  return low;
};

// The first and last segment of the event around a segment: neighbours with the same label.
const eventAround = (row) => {
  const video = videoOf(row), { label, start_ms: start, end_ms: end } = result.segments;
  const goesOn = (one, next) => label[one] === label[next] && start[next] <= end[one] + 1;
  let first = row, last = row;
  while (first > result.first[video] && goesOn(first - 1, first)) first -= 1;
  while (last + 1 < result.first[video + 1] && goesOn(last, last + 1)) last += 1;
  return [first, last];
};

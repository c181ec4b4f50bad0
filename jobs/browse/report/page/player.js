// Where a video is played from, and the commands that do what a browser cannot.

const encodePath = (path) => path.split("/").map(encodeURIComponent).join("/");

const videoUrl = (video) => {
  const name = result.name(video);
  if (result.isServed) return result.isLocal(name) ? `video/${video}` : null;
  if (result.base && name.startsWith(result.base.folder)) return result.base.url + encodePath(name.slice(result.base.folder.length));
  if (/^(https?|file):\/\//i.test(name)) return name;
  return result.isLocal(name) ? `file://${encodePath(name)}` : null;
};
result.isLocal = (name) => name.startsWith("/") || name.startsWith("file://");

const previewUrl = (video, row) => {
  const { start_ms: start, end_ms: end } = result.segments;
  return `preview/${video}?start_ms=${start[row]}&end_ms=${end[row]}`;
};

// Players count from the start of the file, which may be before the first frame.
const playerMs = (video, row) => result.segments.start_ms[row] + result.videos.stream_start_ms[video];

const playCommand = (video, row) => {
  const name = result.name(video), start = secondsText(playerMs(video, row));
  if (/^s3:\/\//i.test(name)) return `mpv --start=${start} "$(aws s3 presign ${shellWord(name)})"`;
  return result.isLocal(name) || /^https?:\/\//i.test(name) ? `mpv --start=${start} ${shellWord(name)}` : null;
};

const tags = () => shellWord(result.tags);
const likeCommand = (video, row) => {
  const middle = (result.segments.start_ms[row] + result.segments.end_ms[row]) / 2;
  return `vtag search ${tags()} --like ${shellWord(`${result.name(video)}@${secondsText(Math.round(middle))}`)} --all`;
};

// The commands after marking: a pair of a sentence and a command, or null for the command.
const nextCommands = () => {
  const file = result.isServed ? result.marksFile : "marks.csv", model = result.isNamed ? "" : ` --model ${shellWord(`${result.model}.safetensors`)}`;
  const train = ["Train a model on the marked stretches of the videos:", `vtag train ${shellWord(file)} --model i3d-lite-lstm --freeze-backbone --out mine.safetensors`];
  if (!result.hasEmbeddings) {
    return [["Learning from marks in seconds needs embeddings: add --embeddings --overwrite to the command of vtag run.", null], train];
  }
  return [
    ["Learn from the marks, in seconds:", `vtag teach ${tags()} ${shellWord(file)}${model} --out taught.safetensors`],
    ["Then label all segments anew, without opening a video:", `vtag relabel ${tags()} --model taught.safetensors --overwrite`],
    train,
  ];
};

// Unpacks the data of the page. Its layout is that of packed_columns.py.

const blockBytes = (id) => {
  const text = document.getElementById(id).textContent.trim();
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
};

// Values of a column: planes of bytes, lowest first, plus a base; with delta, each is added to the value before it.
const columnValues = ({ rows, bytes, base, delta }, content, at) => {
  const isSmall = bytes < 4 && !delta && base >= 0 && base + 256 ** bytes < 2 ** 31;
  const values = isSmall ? new Int32Array(rows) : new Float64Array(rows);
  for (let plane = 0, scale = 1; plane < bytes; plane += 1, scale *= 256) {
    const from = at + plane * rows;
    for (let row = 0; row < rows; row += 1) values[row] += content[from + row] * scale;
  }
  let before = 0;
  for (let row = 0; row < rows; row += 1) {
    values[row] += base + before;
    if (delta) before = values[row];
  }
  return values;
};

const unpack = async (id) => {
  const packed = new Blob([blockBytes(id)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const content = new Uint8Array(await new Response(packed).arrayBuffer());
  const length = new DataView(content.buffer).getUint32(0, true);
  const { columns, ...facts } = JSON.parse(new TextDecoder().decode(content.subarray(4, 4 + length)));
  const found = {};
  let at = 4 + length;
  for (const column of columns) {
    found[column.name] = columnValues(column, content, at);
    at += column.rows * column.bytes;
  }
  return [facts, found];
};

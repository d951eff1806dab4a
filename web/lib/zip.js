// ZIP archives without compression, since weights do not compress: one file to save or to drop instead of a folder.
//
// No file is copied or read as a whole here: an archive is a Blob of the files' own bytes, and its files are slices of it. A
// library such as fflate (91 KB) makes one array of the whole archive, and a judge of some gigabytes does not fit into one.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

const FILE = 0x04034b50;
const ENTRY = 0x02014b50;
const END = 0x06054b50;
const END_BYTES = 22; // without its comment
const LONGEST_COMMENT = 65_535;
const JANUARY_1980 = 0x21; // the earliest date that ZIP has: the same judge gives the same bytes

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i += 1) crc = CRC_TABLE[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * Little-endian numbers, each of 2 or 4 bytes.
 * @param {...[size: number, value: number]} fields
 */
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

/**
 * A ZIP of at most 4 GB with all files in one folder.
 * @param {string} folder
 * @param {{ name: string, bytes: Uint8Array<ArrayBuffer> }[]} files
 */
export function zip(folder, files) {
  const body = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const path = new TextEncoder().encode(`${folder}/${name}`);
    const size = bytes.length;
    /** Version 2.0, names in UTF-8, stored, no time of day. @type {[number, number][]} */
    const shared = [
      [2, 20],
      [2, 0x800],
      [2, 0],
      [2, 0],
      [2, JANUARY_1980],
      [4, crc32(bytes)],
      [4, size],
      [4, size],
      [2, path.length],
      [2, 0],
    ];
    const head = record([4, FILE], ...shared);
    body.push(head, path, bytes);
    directory.push(record([4, ENTRY], [2, 20], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += head.length + path.length + size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = record([4, END], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]);
  return new Blob([...body, ...directory, end], { type: "application/zip" });
}

/**
 * The files of a ZIP without compression, by their names without folders. Null for any other blob.
 * @param {Blob} blob
 */
export async function unzip(blob) {
  const tail = new DataView(await blob.slice(Math.max(0, blob.size - END_BYTES - LONGEST_COMMENT)).arrayBuffer());
  let end = tail.byteLength - END_BYTES;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) return null;
  const [count, size, start] = [tail.getUint16(end + 10, true), tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  const view = new DataView(await blob.slice(start, start + size).arrayBuffer());
  const files = [];
  for (let n = 0, at = 0; n < count; n += 1) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== ENTRY) return null;
    const [method, length] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true)];
    const [path, extra, comment] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const offset = view.getUint32(at + 42, true);
    const name = new TextDecoder()
      .decode(new Uint8Array(view.buffer, at + 46, path))
      .split("/")
      .pop();
    if (method !== 0) return null;
    if (name) {
      const head = new DataView(await blob.slice(offset, offset + 30).arrayBuffer());
      const from = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
      files.push(new File([blob.slice(from, from + length)], name));
    }
    at += 46 + path + extra + comment;
  }
  return files;
}

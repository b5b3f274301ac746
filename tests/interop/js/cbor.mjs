// The strict subset of CBOR of crypto/specs/statements.md, written from that page.
// Integers of JavaScript here are Numbers below 2^53; ids and payloads are Buffers; maps are objects with text keys.

const MAX_DEPTH = 16

export function encode (value) {
  return Buffer.concat(parts(value, 1))
}

function head (major, number) {
  if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`no integer of ours: ${number}`)
  if (number < 24) return Buffer.from([major << 5 | number])
  if (number < 0x100) return Buffer.from([major << 5 | 24, number])
  const made = Buffer.alloc(number < 0x10000 ? 3 : number < 0x100000000 ? 5 : 9)
  made[0] = major << 5 | { 3: 25, 5: 26, 9: 27 }[made.length]
  if (made.length === 3) made.writeUInt16BE(number, 1)
  else if (made.length === 5) made.writeUInt32BE(number, 1)
  else made.writeBigUInt64BE(BigInt(number), 1)
  return made
}

function parts (value, depth) {
  if (depth > MAX_DEPTH) throw new RangeError('nested too deep')
  if (value === null) return [Buffer.from([0xf6])]
  if (value === false || value === true) return [Buffer.from([value ? 0xf5 : 0xf4])]
  if (typeof value === 'number') return [value < 0 ? head(1, -1 - value) : head(0, value)]
  if (typeof value === 'string') {
    const text = Buffer.from(value.normalize('NFC'))
    return [head(3, text.length), text]
  }
  if (value instanceof Uint8Array) return [head(2, value.length), Buffer.from(value)]
  if (Array.isArray(value)) return [head(4, value.length), ...value.flatMap(item => parts(item, depth + 1))]
  const entries = Object.entries(value).map(([key, item]) => [encode(key), parts(item, depth + 1)])
  entries.sort(([one], [other]) => Buffer.compare(one, other))
  return [head(5, entries.length), ...entries.flatMap(([key, item]) => [key, ...item])]
}

export function decode (data) {
  const reader = { data: Buffer.from(data), at: 0 }
  const value = read(reader, 1)
  if (reader.at !== reader.data.length) throw new RangeError('bytes after the value')
  if (!encode(value).equals(reader.data)) throw new RangeError('not the one encoding of its value')
  return value
}

function take (reader, count) {
  if (reader.at + count > reader.data.length) throw new RangeError('cut off')
  reader.at += count
  return reader.data.subarray(reader.at - count, reader.at)
}

function argument (reader, low) {
  if (low < 24) return low
  const width = { 24: 1, 25: 2, 26: 4, 27: 8 }[low]
  if (width === undefined) throw new RangeError('indefinite or reserved length')
  const raw = take(reader, width)
  const number = width === 8 ? Number(raw.readBigUInt64BE()) : raw.readUIntBE(0, width)
  if (!Number.isSafeInteger(number)) throw new RangeError('an integer beyond 2^53')
  return number
}

function read (reader, depth) {
  if (depth > MAX_DEPTH) throw new RangeError('nested too deep')
  const [first] = take(reader, 1)
  const low = first & 31
  switch (first >> 5) {
    case 0: return argument(reader, low)
    case 1: return -1 - argument(reader, low)
    case 2: return Buffer.from(take(reader, argument(reader, low)))
    case 3: return new TextDecoder('utf-8', { fatal: true }).decode(take(reader, argument(reader, low)))
    case 4: return Array.from({ length: bounded(reader, low) }, () => read(reader, depth + 1))
    case 5: return Object.fromEntries(Array.from({ length: bounded(reader, low) }, () => {
      return [text(read(reader, depth + 1)), read(reader, depth + 1)]
    }))
    case 7:
      if (low === 20 || low === 21) return low === 21
      if (low === 22) return null
  }
  throw new RangeError('a kind of value that is not of the subset')
}

// Every item takes a byte at least, so that a length cannot ask for more memory than was received.
function bounded (reader, low) {
  const count = argument(reader, low)
  if (count > reader.data.length - reader.at) throw new RangeError('cut off')
  return count
}

function text (key) {
  if (typeof key !== 'string') throw new RangeError('a key that is not text')
  return key
}

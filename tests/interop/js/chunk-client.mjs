// A client of /sovereign/chunk/1.0.0, written from protocols/specs/chunk.md and conventions.md alone.
import { decode, encode } from './cbor.mjs'
import { sha256 } from './statement.mjs'

export const PROTOCOL = '/sovereign/chunk/1.0.0'

const MAX_HEADER_BYTES = 65536
const MAX_CHUNK_BYTES = 4194392
const WINDOW_BYTES = 16777216

const HELLO = 0; const LOG_ENTRY = 1; const HAVE = 4; const PUT = 6; const GET = 7; const CREDIT = 9
const HEAD_SET = 12; const HEAD_GET = 13; const USAGE_GET = 14
const HELLO_REPLY = 32; const LOG_ACCEPTED = 33; const HAVE_REPLY = 35; const STORED = 37; const CHUNK = 38
const MISSING = 39; const DONE = 40; const HEAD = 41; const USAGE_REPLY = 42; const FAILURE = 44

export class RemoteFailure extends Error {
  constructor (code, data) {
    super(`the server answered ${code}`)
    this.code = code
    this.data = data
  }
}

export class ChunkClient {
  constructor (bytes) {
    this.bytes = bytes
    this.request = 0
  }

  // Say hello with a certificate and the identity log, or without both as a stranger; clock in seconds UTC.
  async hello ({ certificate, log, clock }) {
    const logHash = log.length > 0 ? sha256(log.at(-1)) : null
    await this.send([HELLO, 1, clock, WINDOW_BYTES, certificate, log.length, logHash])
    const [, , serverClock, window, known] = await this.expect(HELLO_REPLY)
    if (known < log.length) {
      for (const [index, entry] of log.entries()) await this.send([LOG_ENTRY, log.length - 1 - index], entry)
      await this.expect(LOG_ACCEPTED)
    }
    return { serverClock, window, logAsked: known < log.length }
  }

  async put (contract, chunk) {
    const id = sha256(chunk)
    const request = ++this.request
    await this.send([PUT, request, contract, id], chunk)
    const [, requests] = await this.expect(STORED)
    if (!requests.includes(request)) throw new Error('stored answers another request')
    return id
  }

  async have (contract, ids) {
    await this.send([HAVE, ++this.request, contract, ids])
    const [, , present] = await this.expect(HAVE_REPLY)
    return [...present].map(Boolean)
  }

  // Chunks by hexadecimal id, each checked against it; those that the server lacks are left out.
  async get (contract, ids) {
    const found = new Map()
    const request = ++this.request
    await this.send([GET, request, contract, ids])
    for (;;) {
      const { header, payload } = await this.next()
      if (header[1] !== request) throw new Error('an answer to another request')
      if (header[0] === DONE) return found
      if (header[0] === MISSING) continue
      if (header[0] !== CHUNK) throw new Error(`message ${header[0]} instead of a chunk`)
      if (!sha256(payload).equals(header[2])) throw new Error('a chunk that is not what its id says')
      found.set(header[2].toString('hex'), payload)
      await this.send([CREDIT, payload.length])
    }
  }

  async setHead (contract, locator, previous, head) {
    await this.send([HEAD_SET, ++this.request, contract, locator, previous], head)
    await this.expect(DONE)
  }

  async heads (contract, locator) {
    const found = []
    await this.send([HEAD_GET, ++this.request, contract, locator])
    for (;;) {
      const { header, payload } = await this.next()
      if (header[0] === DONE) return found
      if (header[0] !== HEAD) throw new Error(`message ${header[0]} instead of a head`)
      found.push(payload)
    }
  }

  async usage (contract) {
    await this.send([USAGE_GET, ++this.request, contract])
    const [, , quota, chunks, bytes] = await this.expect(USAGE_REPLY)
    return { quota, chunks, bytes }
  }

  async send (header, payload = Buffer.alloc(0)) {
    const encoded = encode(header)
    const lengths = Buffer.alloc(8)
    lengths.writeUInt32BE(encoded.length, 0)
    lengths.writeUInt32BE(payload.length, 4)
    await this.bytes.write(Buffer.concat([lengths, encoded, payload]))
  }

  async expect (number) {
    const { header } = await this.next()
    if (header[0] !== number) throw new Error(`message ${header[0]} instead of ${number}`)
    return header
  }

  async next () {
    const lengths = await this.bytes.exactly(8)
    if (lengths === null) throw new Error('the server ended the session')
    const [headerBytes, payloadBytes] = [lengths.readUInt32BE(0), lengths.readUInt32BE(4)]
    if (headerBytes < 1 || headerBytes > MAX_HEADER_BYTES) throw new RangeError('a header of that length')
    if (payloadBytes > MAX_CHUNK_BYTES) throw new RangeError('a payload of that length')
    const header = decode(await this.bytes.exactly(headerBytes))
    const payload = await this.bytes.exactly(payloadBytes)
    if (header[0] === FAILURE) throw new RemoteFailure(header[2], header[3])
    return { header, payload }
  }
}

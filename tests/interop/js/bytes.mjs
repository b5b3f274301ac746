// A js-libp2p stream read and written with back pressure: reading pauses it, writing waits until it has room.

const HIGH_WATER_BYTES = 1 << 20

export class ByteStream {
  constructor (stream) {
    this.stream = stream
    this.queue = []
    this.queuedBytes = 0
    this.ended = stream.readableEnded
    this.error = null
    this.wake = () => {}
    stream.addEventListener('message', ({ data }) => {
      for (const piece of data instanceof Uint8Array ? [data] : data) this.queue.push(Buffer.from(piece))
      this.queuedBytes += data.byteLength
      if (this.queuedBytes > HIGH_WATER_BYTES && stream.readStatus === 'readable') stream.pause()
      this.wake()
    })
    stream.addEventListener('end', () => { this.ended = true; this.wake() })
    stream.addEventListener('close', ({ error }) => {
      this.error = error ?? null
      this.ended = true
      this.wake()
    })
  }

  // The next bytes, or null at the end of the stream.
  async some () {
    while (this.queue.length === 0) {
      if (this.stream.readStatus === 'paused') this.stream.resume()
      if (this.queue.length > 0) break
      if (this.error !== null) throw this.error
      if (this.ended) return null
      await new Promise(resolve => { this.wake = resolve })
    }
    const piece = this.queue.shift()
    this.queuedBytes -= piece.length
    return piece
  }

  // Exactly `count` bytes, or null if the stream ended before the first of them.
  async exactly (count) {
    const pieces = []
    for (let missing = count; missing > 0;) {
      const piece = await this.some()
      if (piece === null) {
        if (missing === count) return null
        throw new Error('the stream ended in the middle')
      }
      const [used, rest] = [piece.subarray(0, missing), piece.subarray(missing)]
      if (rest.length > 0) {
        this.queue.unshift(rest)
        this.queuedBytes += rest.length
      }
      pieces.push(used)
      missing -= used.length
    }
    return Buffer.concat(pieces)
  }

  async write (data) {
    if (!this.stream.send(data)) await this.stream.onDrain()
  }

  async finish () {
    await this.stream.close()
  }
}

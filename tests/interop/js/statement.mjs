// Signed statements of crypto/specs/statements.md and the records of protocols/specs/discovery.md.
import { createHash, createPrivateKey, sign } from 'node:crypto'
import { encode } from './cbor.mjs'

const NETWORK_ID = createHash('sha256').update('sovereign network 1').digest()
const PEER_RECORD = 0x30

export const sha256 = (...pieces) => pieces.reduce((hash, piece) => hash.update(piece), createHash('sha256')).digest()

const domain = (name) => Buffer.from(`${name}\0`)

export function privateKeyOf (seed) {
  // RFC 8410: the fixed beginning of an Ed25519 key in PKCS #8.
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
}

export function signStatement (type, body, seed, publicKey) {
  const encoded = encode(body)
  const start = Buffer.alloc(12)
  start.write('SVS1')
  start[4] = 1
  start[5] = type
  start.writeUInt32BE(encoded.length, 8)
  const signed = Buffer.concat([domain('svrn/v1/stmt'), NETWORK_ID, start, encoded, publicKey])
  return Buffer.concat([start, encoded, publicKey, sign(null, signed, privateKeyOf(seed))])
}

export function signPeerRecord ({ seed, publicKey, certificate, addresses, seq, at }) {
  const body = {
    v: 1,
    device: publicKey,
    certificate,
    addresses,
    roles: ['mobile'],
    name: 'a peer in JavaScript',
    seq,
    issued_at: at,
    expires_at: at + 3600
  }
  return signStatement(PEER_RECORD, body, seed, publicKey)
}

export const peerRecordKey = (publicKey) => sha256(domain('svrn/v1/dht/device'), publicKey)
// "/sov/" and base64url, as in protocols/specs/kad.md.
export const recordWireKey = (key) => Buffer.from(`/sov/${key.toString('base64url')}`)

// One js-libp2p peer, driven by a test: a JSON line in is a command, a JSON line out its answer.
// Started as `node peer.mjs SEED SECURITY KEY-TYPE LISTEN,... relay` with 32 bytes of an Ed25519 key in hexadecimal
// digits; with the last word it carries circuits for others.
import './polyfill.mjs'
import { createHash, randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as digest from 'multiformats/hashes/digest'
import { ByteStream } from './bytes.mjs'
import { ChunkClient, PROTOCOL as CHUNK, RemoteFailure } from './chunk-client.mjs'
import { peerRecordKey, recordWireKey, sha256, signPeerRecord } from './statement.mjs'

const ECHO = '/test/echo/1.0.0'
const KAD = '/sovereign/kad/1.0.0'
const PIECE_BYTES = 1 << 18
const RAW_CODEC = 0x55
const SHA2_256 = 0x12

const [seedText, security, keyType, listen, role] = process.argv.slice(2)
const seed = Buffer.from(seedText, 'hex')

const identified = new Map()

function addressesOf (peers) {
  return peers.map(peer => ({ peer_id: String(peer.id), addresses: peer.multiaddrs.map(String) }))
}

async function start () {
  const node = await createLibp2p({
    privateKey: keyType === 'Ed25519' ? await generateKeyPairFromSeed('Ed25519', seed) : await generateKeyPair(keyType),
    addresses: { listen: listen.split(',') },
    transports: [tcp(), circuitRelayTransport()],
    connectionEncrypters: security === 'tls' ? [tls()] : [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    services: {
      identify: identify(),
      ping: ping(),
      // Its own limit of 128 KiB for a circuit is too little for a chunk.
      ...(role === 'relay' && { relay: circuitRelayServer({ reservations: { applyDefaultLimit: false } }) }),
      dht: kadDHT({
        protocol: KAD,
        clientMode: false,
        peerInfoMapper: passthroughMapper,
        // Refusing nothing here leaves it to the other implementation to refuse.
        validators: { sov: async () => {} },
        selectors: { sov: (_key, values) => values.length - 1 }
      })
    }
  })
  node.addEventListener('peer:identify', ({ detail }) => identified.set(String(detail.peerId), detail))
  await node.handle(ECHO, async (stream) => {
    const bytes = new ByteStream(stream)
    for (let piece; (piece = await bytes.some()) !== null;) await bytes.write(piece)
    await bytes.finish()
  }, { runOnLimitedConnection: true })
  return node
}

async function open (node, peerId, protocol) {
  // A dial looks for a direct connection even where there is one through a relay.
  const [connection] = node.getConnections(peerIdFromString(peerId))
  if (connection === undefined) throw new Error('not connected')
  return new ByteStream(await connection.newStream(protocol, { runOnLimitedConnection: true }))
}

// Sends `size` random bytes, ends its direction and reads until the other one ends.
async function echo (node, { peer_id: peerId, size }) {
  const bytes = await open(node, peerId, ECHO)
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  let count = 0
  const reading = (async () => {
    for (let piece; (piece = await bytes.some()) !== null; count += piece.length) received.update(piece)
  })()
  for (let left = size; left > 0;) {
    const piece = randomBytes(Math.min(left, PIECE_BYTES))
    sent.update(piece)
    await bytes.write(piece)
    left -= piece.length
  }
  await bytes.finish()
  await reading
  return { size: count, same: count === size && sent.digest().equals(received.digest()) }
}

async function withChunks (node, { peer_id: peerId, certificate, log, clock }, use) {
  const bytes = await open(node, peerId, CHUNK)
  const client = new ChunkClient(bytes)
  const entries = log.map(entry => Buffer.from(entry, 'hex'))
  const greeting = await client.hello({ certificate: certificate && Buffer.from(certificate, 'hex'), log: entries, clock })
  const result = await use(client)
  await bytes.finish()
  return { log_asked: greeting.logAsked, window: greeting.window, ...result }
}

const commands = {
  about: async (node) => ({
    peer_id: String(node.peerId),
    addresses: node.getMultiaddrs().map(String)
  }),

  dial: async (node, { address }) => {
    const connection = await node.dial(multiaddr(address))
    return { peer_id: String(connection.remotePeer), muxer: connection.multiplexer, security: connection.encryption }
  },

  ping: async (node, { peer_id: peerId }) => ({ milliseconds: await node.services.ping.ping(peerIdFromString(peerId)) }),

  identify: async (node, { peer_id: peerId }) => {
    while (!identified.has(peerId)) await new Promise(resolve => node.addEventListener('peer:identify', resolve, { once: true }))
    const found = identified.get(peerId)
    return { agent: found.agentVersion, protocols: found.protocols, addresses: found.listenAddrs.map(String) }
  },

  echo,

  dht_size: async (node) => ({ size: node.services.dht.routingTable.size }),

  // Publishes a peer record that this script signs itself.
  publish: async (node, { certificate, seq, at }) => {
    const publicKey = Buffer.from(node.peerId.publicKey.raw)
    const addresses = node.getMultiaddrs().map(String)
    const value = signPeerRecord({ seed, publicKey, certificate: Buffer.from(certificate, 'hex'), addresses, seq, at })
    const key = peerRecordKey(publicKey)
    return { ...await store(node, recordWireKey(key), value), key: key.toString('hex'), value: value.toString('hex') }
  },

  put: async (node, { wire_key: wireKey, value }) => store(node, Buffer.from(wireKey), Buffer.from(value, 'hex')),

  get: async (node, { key }) => {
    const values = []
    for await (const event of node.services.dht.get(recordWireKey(Buffer.from(key, 'hex')))) {
      if (event.name === 'VALUE') values.push(Buffer.from(event.value).toString('hex'))
    }
    return { value: values.at(-1) ?? null }
  },

  provide: async (node, { key }) => {
    let told = 0
    for await (const event of node.services.dht.provide(cidOf(key))) told += event.name === 'PEER_RESPONSE'
    return { told }
  },

  providers: async (node, { key }) => {
    const found = new Map()
    for await (const event of node.services.dht.findProviders(cidOf(key))) {
      if (event.name === 'PROVIDER') for (const peer of event.providers) found.set(String(peer.id), peer)
    }
    return { providers: addressesOf([...found.values()]) }
  },

  find_peer: async (node, { peer_id: peerId }) => {
    const found = await node.peerRouting.findPeer(peerIdFromString(peerId), { useCache: false })
    return { addresses: found.multiaddrs.map(String) }
  },

  // Puts one chunk of its own making, asks for it and for one that does not exist, and fetches what the test names.
  chunks: async (node, options) => withChunks(node, options, async (client) => {
    const contract = Buffer.from(options.contract, 'hex')
    const wanted = options.ids.map(id => Buffer.from(id, 'hex'))
    const own = randomBytes(options.size)
    const id = await client.put(contract, own)
    const have = await client.have(contract, [id, sha256(id)])
    const found = await client.get(contract, [id, ...wanted, sha256(id)])
    return {
      id: id.toString('hex'),
      have,
      same: found.get(id.toString('hex')).equals(own),
      found: [...found.keys()],
      usage: await client.usage(contract)
    }
  }),

  head: async (node, options) => withChunks(node, options, async (client) => {
    const [contract, locator] = [options.contract, options.locator].map(text => Buffer.from(text, 'hex'))
    const head = Buffer.from(options.head, 'hex')
    await client.setHead(contract, locator, null, head)
    await client.setHead(contract, locator, null, head)
    const conflict = await client.setHead(contract, locator, null, Buffer.concat([head, head])).catch(refusal)
    const heads = await client.heads(contract, locator)
    return { conflict, heads: heads.map(found => found.toString('hex')) }
  }),

  greet: async (node, options) => withChunks(node, options, async () => ({})).catch(error => ({ refused: refusal(error) }))
}

function refusal (error) {
  if (error instanceof RemoteFailure) return error.code
  throw error
}

function cidOf (key) {
  return CID.createV1(RAW_CODEC, digest.create(SHA2_256, Buffer.from(key, 'hex')))
}

async function store (node, wireKey, value) {
  const told = { stored: 0, refused: 0, errors: [] }
  for await (const event of node.services.dht.put(wireKey, value)) {
    if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') told.stored++
    if (event.name === 'QUERY_ERROR') {
      told.refused++
      told.errors.push(event.error.message)
    }
  }
  return told
}

const node = await start()
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...options } = JSON.parse(line)
  commands[command](node, options)
    .then(result => ({ id, result }), error => ({ id, error: `${error?.name}: ${error?.message}` }))
    .then(answer => process.stdout.write(`${JSON.stringify(answer)}\n`))
}
await node.stop()
process.exit(0)

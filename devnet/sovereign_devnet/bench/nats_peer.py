"""The other end of `bench.nats`: counts and echoes over plain NATS, a bare tunnel, and streams of a peer."""

import json
import sys

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_node.log import configure_logging
from sovereign_node.net.host import open_network
from sovereign_node.net.nats.client import NatsClient
from sovereign_node.net.nats.relay import Relay
from sovereign_node.net.nats.transport import NatsTransport
from sovereign_protocols.relay.endpoint import parse_url
from sovereign_protocols.relay.nats_wire import Message

MESSAGE_BYTES = 65_536
ACK_EVERY_BYTES = 1 << 20
PLAIN_WINDOW_BYTES = 24 << 20
PROTOCOL_ID = "/sovereign/bench/1.0.0"


async def serve_stream(stream: trio.abc.Stream) -> None:
    """Echo after an `e`; after an `s`, count to the end and tell how much it was."""
    mode = await stream.receive_some(1)
    total = 0
    while data := await stream.receive_some(256 << 10):
        total += len(data)
        if mode == b"e":
            await stream.send_all(data)
    if mode == b"s":
        await stream.send_all(b"%d" % total)
    await stream.aclose()


async def _serve_plain(client: NatsClient) -> None:
    connection = await client.connected()
    counted = 0

    def on_sink(message: Message) -> None:
        nonlocal counted
        counted += len(message.payload)
        if counted >= ACK_EVERY_BYTES:
            counted -= ACK_EVERY_BYTES
            connection.publish_nowait("bench.ack", b"")

    connection.subscribe("bench.sink", on_sink)
    connection.subscribe("bench.echo", lambda message: connection.publish_nowait("bench.back", message.payload))
    await connection.flush()


async def main(url: str) -> None:
    """Serve until killed."""
    endpoint = parse_url(url)
    key, raw_key = SigningKey.generate(), SigningKey.generate()
    client = NatsClient([endpoint])
    raw = Relay([endpoint], raw_key.public)
    transport = NatsTransport([Relay([endpoint], key.public)])
    async with trio.open_nursery() as nursery, open_network(key, listen=[], transports=[transport]) as network:
        network.set_handler(PROTOCOL_ID, serve_stream)
        nursery.start_soon(client.run)
        nursery.start_soon(raw.run, serve_stream)
        await _serve_plain(client)
        await transport.wait_listening()
        await raw.wait_listening()
        sys.stdout.write(json.dumps({"peer_id": network.peer_id, "raw_key": raw_key.public.hex()}) + "\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    configure_logging()
    trio.run(main, sys.argv[1])

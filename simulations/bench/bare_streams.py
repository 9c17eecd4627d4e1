"""The least that can hold a session with every device: gRPC streams over mTLS, and nothing behind.

``python -m simulations.bench.bare_streams CERTIFICATES HOST``; prints its port, and for every line on
its stdin sends one message to each stream that is open. Ends when its stdin is closed.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import grpc

from controller.store.certificate_files import open_certificates

PATH = "/bench.Streams/Session"


async def _serve(certificates: Path, host: str) -> None:
    open_streams: set[grpc.aio.ServicerContext[bytes, bytes]] = set()

    async def session(_: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        await context.send_initial_metadata(())
        open_streams.add(context)
        try:
            while isinstance(await context.read(), bytes):
                pass
        finally:
            open_streams.discard(context)

    known = open_certificates(certificates, [host], datetime.now(UTC))
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(session)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Streams", {"Session": handler}),)
    )
    credentials = grpc.ssl_server_credentials(
        [(known.server.key_pem, known.server.certificate_pem)],
        known.device_authority.certificate_pem,
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        message = bytes(int(line))
        for stream in tuple(open_streams):
            await stream.write(message)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2]))

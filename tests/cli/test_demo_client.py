"""The demo's HTTP client, against a real socket."""

import asyncio

from cli.demo.client import CONNECTION_TRIES, Client

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def test_connections_that_the_server_closed_while_they_rested_are_not_asked_again() -> None:
    resting: list[asyncio.StreamWriter] = []
    together = asyncio.Barrier(CONNECTION_TRIES + 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resting.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(resting) <= together.parties:
            await together.wait()
        writer.write(ANSWER)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        client = Client(f"http://{host}:{port}", connections=together.parties)
        await asyncio.gather(*(client.get("/") for _ in range(together.parties)))
        for writer in resting:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in resting))
        assert (await client.get("/")).status == 200
        assert len(resting) == together.parties + 1
        client.close()
        resting[-1].close()

"""A long road to Redis: what is asked arrives a while later. So a test may say how much an API process can serve."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from sandbox.processes import free_port


@contextlib.contextmanager
def slow_road(redis_url: str, seconds: float) -> Iterator[str]:
    """The URL at which that Redis answers ``seconds`` later."""
    parts = urlsplit(redis_url)
    port = free_port()
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if delay:
                    await asyncio.sleep(delay)
                writer.write(data)
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, far_writer, seconds), carry(far_reader, writer, 0))

    async def serve() -> None:
        server = await asyncio.start_server(join, "127.0.0.1", port)
        ready.set()
        async with server:
            await server.serve_forever()

    def work() -> None:
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(loop):
            loop.run_until_complete(serving)

    serving = loop.create_task(serve())
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(10)

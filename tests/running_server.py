"""A server in the test's own event loop."""

import asyncio
import contextlib
import struct
import urllib.request


@contextlib.asynccontextmanager
async def running(serve):
    """Runs `serve(host, port, ready=...)`; gives the port."""
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, ready=ready.set_result))
    await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield ready.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def page(port, path):
    """The text of a page."""
    url = f"http://127.0.0.1:{port}{path}"
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())


class RawClient:
    """A WebSocket client that does only what it is told; every byte it sends is one of the caller's."""

    def __init__(self, port):
        self._port = port

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await self._reader.readuntil(b"\r\n\r\n")
        assert (await self.read())[0] == 2, "the server speaks first"
        return self

    async def __aexit__(self, *error):
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def abort(self):
        """Leaves without a word."""
        self._writer.transport.abort()

    def write(self, data):
        """Sends bytes as they are."""
        self._writer.write(data)

    def send(self, data):
        """Sends a binary frame, masked by zeros."""
        self.write(b"\x82\xff" + struct.pack(">Q", len(data)) + bytes(4) + data)

    async def read(self):
        """(opcode, data) of the next frame."""
        async with asyncio.timeout(30):
            first, size = await self._reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self._reader.readexactly(size)

    async def close_code(self):
        """The code by which the server closes the connection now."""
        opcode, data = await self.read()
        assert opcode == 8, (opcode, data)
        return int.from_bytes(data[:2], "big")

"""A server in the test's own event loop."""

import asyncio
import contextlib
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

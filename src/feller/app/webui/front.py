"""What answers while the page is being made: at once, with a page that looks again once that is there."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ICON = "/favicon.ico"
WAIT = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>feller</title>
<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:20vh auto;
padding:0 1rem}</style><p>The page is being made, which takes some seconds. It shows itself.</p>
"""
LOOK, LOOKS = 0.02, 50
"""Seconds between looks at whether the page is there, and looks before an answer ends; browsers then come again."""


class Front:
    """An ASGI application that another takes the place of once it is there."""

    def __init__(self) -> None:
        self._app: App | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._lives: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        else:
            await self._wait(send, scope["path"])

    async def _wait(self, send: Send, path: str) -> None:
        """Ask to come again: a browser once the page is there, or after a second."""
        if path == ICON:  # browsers ask for it at each look, and complain of what else is answered
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        status, text = (200, WAIT) if path == "/" else (503, "the page is being made\n")
        kind = "text/html; charset=utf-8" if path == "/" else "text/plain; charset=utf-8"
        pairs = {"content-type": kind, "cache-control": "no-store", "retry-after": "1"}
        headers = [(name.encode(), value.encode()) for name, value in pairs.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        for _ in range(LOOKS if path == "/" else 0):
            if self._app is not None:
                break
            await asyncio.sleep(LOOK)
        await send({"type": "http.response.body", "body": b""})

    def show(self, app: App, patience: float) -> None:
        """Put the page in place, from another thread than that of the server, which must run.

        Raises:
            RuntimeError: If the page cannot be started.
        """
        if self._loop is None:
            raise RuntimeError("the server is not running")
        asyncio.run_coroutine_threadsafe(self._start(app), self._loop).result(patience)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Live as long as the server, and end the page that came later."""
        await receive()
        self._loop = asyncio.get_running_loop()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._lives is not None:
            await self._told.put({"type": "lifespan.shutdown"})
            await self._lives
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, app: App) -> None:
        """Start the page as its server would have."""
        started = asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed" and not started.done():
                started.set_exception(RuntimeError(message.get("message", "the page cannot be started")))
            elif not started.done():
                started.set_result(None)

        await self._told.put({"type": "lifespan.startup"})
        scope: Message = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lives = asyncio.create_task(_living(app, scope, self._told.get, send))
        await started
        self._app = app


async def _living(app: App, scope: Message, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)

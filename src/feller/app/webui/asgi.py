"""ASGI middleware: loading page, offline policy, Gradio without stub files."""

import asyncio
import os
import pathlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from PIL import EpsImagePlugin, Image

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


MODULE = "gradio.component_meta"
"""Where each component renders its stub again on every import: more than a second, and a folder that changes."""


class _Quiet(SourceFileLoader):
    """Loads that module, and takes the writing out of it."""

    def exec_module(self, module: ModuleType) -> None:
        """Load it."""
        super().exec_module(module)
        module.create_or_modify_pyi = lambda *_: None  # type: ignore[attr-defined]


class _Finder:
    """Finds that module, and no other."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what loads it."""
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Quiet(name, spec.loader.path)
        return spec


def write_no_stubs() -> None:
    """Do so from now on; says nothing where Gradio is imported already."""
    if MODULE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


MOST_PIXELS = 2**24
"""Of a picture that is uploaded."""
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_DEBUG": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may load: nothing from elsewhere, whatever a class, a file or a report is called or holds."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def keep_here(uploads: pathlib.Path) -> None:
    """Set what must be set before Gradio is imported: files go to our folder alone, and nothing goes out.

    Pictures are read by Gradio before we see them, so that those which are small as files and huge in memory are
    refused for the whole process, as is PostScript, which Pillow would let another program run.
    """
    EpsImagePlugin.gs_binary = False
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # from twice as many on, reading is an error
    os.environ.update(SETTINGS)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    write_no_stubs()


MOST_JSON = 4 * 2**20
"""Bytes of a request that is no upload."""
SHOWN = ("image/png", "image/jpeg", "image/webp", "image/gif", "audio/wav", "audio/x-wav", "audio/mpeg", "video/mp4")
"""Kinds of files that a browser shows by themselves, and can run nothing in."""
ALONE = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
"""What a browser may do with a file that is opened as a page: show it, as nobody's."""
Headers = Sequence[tuple[bytes, bytes]]


class Refused(Exception):
    """A request that may not pass; its status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


async def body_of(receive: Receive, most: int) -> bytes:
    """Read a whole request, however long its sender said it is."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request broke off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413, f"a request may have {most // 2**20} MB here")
        more = message.get("more_body", False)
    return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a request that was read once more, then whatever comes."""
    given = False

    async def once_more() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once_more


def usual(headers: Headers) -> dict[str, str]:
    """Return the headers that each answer has, in the place of those of the application."""
    return HEADERS


def of_file(headers: Headers) -> dict[str, str]:
    """Return those of a file, which may be a visitor's: it is shown as a picture, sound or film, never as a page."""
    there = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    ours = {**HEADERS, "content-security-policy": ALONE}
    if there.get("content-type", "").partition(";")[0].strip().lower() in SHOWN:
        return ours
    _, _, called = there.get("content-disposition", "").partition(";")
    return {**ours, "content-disposition": f"attachment;{called}" if called else "attachment"}


def with_headers(send: Send, chosen: Callable[[Headers], dict[str, str]] = usual) -> Send:
    """Add our headers to each answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name.encode(): value.encode("latin-1") for name, value in chosen(message["headers"]).items()}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in ours]
            message = {**message, "headers": [*kept, *ours.items()]}
        await send(message)

    return sent


async def answer(send: Send, status: int, text: str, kind: str, more: dict[str, str] | None = None) -> None:
    """Answer at once."""
    headers = {**HEADERS, "content-type": kind, "cache-control": "no-store", **(more or {})}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": text.encode()})

"""What stands before the page: it lets requests through that may pass, and no others."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from feller.studio.access import COOKIE, Door
from feller.studio.front import App, Message, Receive, Send
from feller.studio.limits import Limits
from feller.studio.offline import HEADERS
from feller.studio.scratch import Scratch

OPEN = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/file=", "/gradio_api/heartbeat/", "/gradio_api/info")
CALLS = (
    *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/upload", "/gradio_api/upload_progress"),
    *("/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/startup-events", "/gradio_api/app_id"),
)
"""Routes that the page uses. Others (proxies, components, monitoring) are closed."""
UPLOAD = "/gradio_api/upload"
MOST_JSON = 4 * 2**20
"""Bytes of a request that is no upload."""
ASK = """<!doctype html><meta charset="utf-8"><title>feller</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}
input,button{font:inherit;padding:.4rem .6rem}</style>
<p>This page needs its token.</p>
<form method="get" action="/"><input name="token" type="password" autocomplete="off" autofocus>
<button>Enter</button></form>
"""


class Refused(Exception):
    """A request that may not pass; its status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Guarded:
    """An ASGI application behind a guard."""

    def __init__(self, app: App, door: Door, scratch: Scratch, limits: Limits) -> None:
        self.app, self.door, self.scratch, self.limits = app, door, scratch, limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                passed = await self._passed(scope, receive, send)
            except Refused as refused:
                await _answer(send, refused.status, f"{refused.why}\n", "text/plain; charset=utf-8")
                return
            if passed is not None:
                await self.app(scope, passed, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _passed(self, scope: Message, receive: Receive, send: Send) -> Receive | None:
        """Return what the application may read; None where the request is answered already.

        Raises:
            Refused: If it may not pass.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, path = headers.get("host", ""), scope["path"]
        if not self.door.knows_host(host):
            raise Refused(403, "this page answers on this machine alone")
        if not self.door.comes_from_here(headers.get("origin"), host):
            raise Refused(403, "another page asked for this")
        if not self.door.lets_in(headers.get("cookie", "")):
            await self._ask(scope, send)
            return None
        if path not in (*OPEN, *CALLS) and not path.startswith(BELOW):
            raise Refused(404, "there is nothing here")
        if ".." in path.split("/"):
            raise Refused(403, "paths may not lead up")
        if path.startswith("/gradio_api/file="):
            self._check_file(path.removeprefix("/gradio_api/file="))
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refused(405, "this page is read and asked, nothing else")
        if scope["method"] != "POST":
            return receive
        most = self.limits.upload if path == UPLOAD else MOST_JSON
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > most:
            raise Refused(413, f"a request may have {most // 2**20} MB here")
        body = await _body(receive, most)
        if path != UPLOAD:
            self._check_paths(body)
        return _again(body, receive)

    async def _ask(self, scope: Message, send: Send) -> None:
        """Let in who brings the token; ask others for it."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["path"] == "/" and self.door.is_token(query.get("token", [""])[0]):
            cookie = f"{COOKIE}={self.door.cookie}; HttpOnly; SameSite=Lax; Path=/"
            await _answer(send, 303, "", "text/plain", {"location": "/", "set-cookie": cookie})
        elif scope["path"] == "/" and scope["method"] == "GET":
            await _answer(send, 401, ASK, "text/html; charset=utf-8")
        else:
            raise Refused(401, "this page needs its token")

    def _check_file(self, place: str) -> None:
        """Refuse what is not in the page's own folder."""
        try:
            inside = pathlib.Path(place).resolve().is_relative_to(self.scratch.path)
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise Refused(403, "this file is not of this page")

    def _check_paths(self, body: bytes) -> None:
        """Refuse a request that names a file which nobody has uploaded here, or an address elsewhere."""
        try:
            asked = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise Refused(400, "this is no JSON") from None
        for path in _paths(asked):
            if not self.scratch.holds_upload(path):
                raise Refused(403, "a request names a file that was not uploaded here")


def _paths(value: Any) -> Iterator[str]:
    """Yield whatever a request calls a path, at any depth."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if path is not None:
                yield str(path)
            rest += value.values()
        elif isinstance(value, list):
            rest += value


async def _body(receive: Receive, most: int) -> bytes:
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


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a request that was read once more, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    """Add our headers to each answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name.encode(): value.encode() for name, value in HEADERS.items()}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in ours]
            message = {**message, "headers": [*kept, *ours.items()]}
        await send(message)

    return sent


async def _answer(send: Send, status: int, text: str, kind: str, more: dict[str, str] | None = None) -> None:
    """Answer at once."""
    headers = {**HEADERS, "content-type": kind, "cache-control": "no-store", **(more or {})}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": text.encode()})

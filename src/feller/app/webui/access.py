"""Access control: token, origin, and validation of requests."""

import hashlib
import hmac
import ipaddress
import json
import pathlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from feller.app.webui.asgi import (
    MOST_JSON,
    App,
    Message,
    Receive,
    Refused,
    Send,
    again,
    answer,
    body_of,
    of_file,
    usual,
    with_headers,
)
from feller.app.webui.limits import LEAST, Limits, Scratch
from feller.core.errors import UsageError

COOKIE = "feller-page"
SHORTEST = 16
"""Characters of a token."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Door:
    """Where the page is reached, and by whom."""

    host: str = LOOPBACK
    port: int = 7860
    token: str | None = None
    """Who comes in must know it; None lets everybody on this machine in."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port is from 0, any that is free, to 65535, got {self.port}")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"others could reach the page at {self.host}, so it needs a token, such as --token"
                f" {secrets.token_urlsafe(18)}; or leave --host out"
            )
        if self.token is not None and (len(self.token) < SHORTEST or not self.token.isascii()):
            raise UsageError(
                f"expected a token of {SHORTEST} plain characters or more that nobody can guess, got"
                f" {len(self.token)}; such as --token {secrets.token_urlsafe(18)}"
            )

    @property
    def fits_address(self) -> bool:
        """Whether a browser sends the token as it stands in an address: what follows a # stays with the browser."""
        return self.token is None or (self.token.isprintable() and not set(self.token) & set('# "<>'))

    def knows_host(self, host: str) -> bool:
        """Tell whether a request names this machine: a stranger's name that points here is not let in without token."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return self.token is not None or is_loopback(name)

    def comes_from_here(self, origin: str | None, host: str) -> bool:
        """Tell whether a page of this address made a request; pages of others may not make one."""
        if origin is None:
            return True
        try:
            return urlsplit(origin).netloc == host
        except ValueError:
            return False

    @property
    def cookie(self) -> str:
        """What a browser shows after the token was right once; it does not tell the token."""
        return hashlib.sha256(f"feller {self.token}".encode()).hexdigest()

    def is_token(self, text: str) -> bool:
        """Tell whether somebody knows the token, in a time that tells nothing of it."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def lets_in(self, cookies: str) -> bool:
        """Tell whether a request may pass by its cookies."""
        if self.token is None:
            return True
        try:
            sent = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return sent is not None and hmac.compare_digest(sent.value.encode(), self.cookie.encode())


def is_loopback(host: str) -> bool:
    """Tell whether nothing but this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


FILE, MANIFEST = "/gradio_api/file=", "/manifest.json"
OPEN = ("/", "/config", "/theme.css", "/favicon.ico", MANIFEST, "/robots.txt")
BELOW = ("/assets/", "/static/", "/svelte/", FILE, "/gradio_api/heartbeat/", "/gradio_api/info")
CALLS = (
    *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/upload", "/gradio_api/upload_progress"),
    *("/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/startup-events", "/gradio_api/app_id"),
)
"""Routes that the page uses. Others (proxies, components, monitoring) are closed."""
UPLOAD = "/gradio_api/upload"
COMING = "feller.coming"
"""Where a request says how many bytes of an upload it brings."""
ASK = """<!doctype html><meta charset="utf-8"><title>feller</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}
input,button{font:inherit;padding:.4rem .6rem}</style>
<p>This page needs its token. Whoever started it knows the token: the text behind <code>--token</code>.</p>
<form method="get" action="/"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<button>Enter</button></form>
"""


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
                await answer(send, refused.status, f"{refused.why}\n", "text/plain; charset=utf-8")
                return
            if passed is not None:
                ours = with_headers(send, of_file if scope["path"].startswith(FILE) else usual)
                with self.scratch.coming(scope.get(COMING, 0)):
                    await self.app(scope, passed, ours)
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
        if path.startswith(FILE):
            self._check_file(path.removeprefix(FILE))
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refused(405, "this page is read and asked, nothing else")
        if scope["method"] != "POST":
            return receive
        most = self.limits.upload if path == UPLOAD else MOST_JSON
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > most:
            raise Refused(413, f"a request may have {most // 2**20} MB here")
        body = await body_of(receive, most)
        if path != UPLOAD:
            self._check_paths(body)
        elif not self.scratch.makes_room(len(body), self.limits.uploads):
            raise Refused(507, "this page holds as many uploads as it may; come again in ten minutes")
        else:
            scope[COMING] = max(LEAST, len(body))
        return again(body, receive)

    async def _ask(self, scope: Message, send: Send) -> None:
        """Let in who brings the token; ask others for it."""
        query = scope.get("query_string", b"").decode("latin-1")
        if scope["path"] == "/" and any(map(self.door.is_token, _tokens(query))):
            cookie = f"{COOKIE}={self.door.cookie}; HttpOnly; SameSite=Lax; Path=/"
            await answer(send, 303, "", "text/plain", {"location": "/", "set-cookie": cookie})
        elif scope["path"] == "/" and scope["method"] == "GET":
            await answer(send, 401, ASK, "text/html; charset=utf-8")
        elif scope["path"] == MANIFEST:  # browsers ask for it without cookies
            await answer(send, 200, "{}", "application/manifest+json")
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


def _tokens(query: str) -> tuple[str, ...]:
    """Return the tokens that an address may mean: as a form sends it, or as a person wrote it behind `?token=`."""
    _, _, written = query.partition("token=")
    return (*parse_qs(query).get("token", [])[:1], unquote(written), written)


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

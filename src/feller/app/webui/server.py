"""HTTP server of the web page: Gradio behind middleware for access control."""

import contextlib
import hashlib
import hmac
import importlib
import ipaddress
import json
import os
import pathlib
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import EpsImagePlugin, Image

from feller.app.reporter import SILENT, Reporter
from feller.core.errors import InputError, UsageError, check_number
from feller.core.interrupts import interrupt_event
from feller.core.run_folder import Run

COOKIE = "feller-page"
MIN_TOKEN = 16
"""Minimum length of the access token in characters."""
LOOPBACK = "127.0.0.1"
ANYWHERE = ("0.0.0.0", "::")
"""Addresses that mean all network interfaces; other machines then reach the page by the host name."""
UPLOAD_BYTES = 16 * 2**20
"""Maximum size of an uploaded file in bytes."""
JSON_BYTES = 4 * 2**20
"""Maximum size of any other request in bytes."""
MAX_PIXELS = 2**24
"""Maximum number of pixels of an uploaded image."""
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Access:
    """Address of the page and its access token."""

    host: str = LOOPBACK
    port: int = 7860
    token: str | None = None
    """Access token; None to admit all users of this machine."""

    def __post_init__(self) -> None:
        check_number("port", self.port, ge=0, le=65535)
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"other machines can reach the page at {self.host}, so the page needs a token",
                remedy=f"Add a token, such as --token {secrets.token_urlsafe(18)}, or omit --host",
            )
        if self.token is not None and (len(self.token) < MIN_TOKEN or not self.token.isascii()):
            raise UsageError(
                f"a random token of at least {MIN_TOKEN} ASCII characters",
                f"{len(self.token)} characters",
                f"Use a token such as --token {secrets.token_urlsafe(18)}",
            )

    @property
    def url(self) -> str:
        """URL of the page; it contains the machine's host name if the server listens on all network interfaces."""
        host = socket.gethostname() if self.host in ANYWHERE else self.host.strip("[]")
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def cookie(self) -> str:
        """Cookie value of an authenticated browser: a hash of the access token."""
        return hashlib.sha256(f"feller {self.token}".encode()).hexdigest()

    def is_token(self, text: str) -> bool:
        """Return True if `text` equals the access token; the comparison takes constant time."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def admits(self, cookies: Mapping[str, str]) -> bool:
        """Return True if the cookies authenticate the request, or no token is required."""
        return self.token is None or hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.cookie.encode())

    def same_site(self, host: str, origin: str | None) -> bool:
        """Return True if a request comes from the web page itself.

        Without an access token, the host must be a loopback name, to prevent DNS rebinding. This check is needed
        because Gradio checks neither the host nor the origin of an upload.
        """
        try:
            is_own_host = self.token is not None or is_loopback(urlsplit(f"//{host}").hostname or "")
            return is_own_host and (origin is None or urlsplit(origin).netloc == host)
        except ValueError:
            return False


def is_loopback(host: str) -> bool:
    """Return True if a host is a loopback address or name."""
    with contextlib.suppress(ValueError):
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


JOIN, FILE, MANIFEST = "/gradio_api/queue/join", "/gradio_api/file=", "/manifest.json"
STARTUP_ROUTE = "/gradio_api/startup-events"
"""Route that Gradio calls on its own server, without a cookie, to start the request queue; the response is empty."""
ROUTES = (
    *(
        "/",
        "/config",
        "/theme.css",
        "/favicon.ico",
        MANIFEST,
        "/robots.txt",
        STARTUP_ROUTE,
        JOIN,
        "/gradio_api/queue/data",
    ),
    *("/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/cancel", "/gradio_api/reset"),
    "/gradio_api/app_id",
)
FOLDERS = ("/assets/", "/static/", "/svelte/", FILE, "/gradio_api/heartbeat/", "/gradio_api/info")
"""Prefixes of allowed routes. Other Gradio routes are blocked, because they run programs on uploads or fetch external
URLs."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        *(f"{kind}-src 'self' data: blob:" for kind in ("img", "media", "connect", "frame")),
        *("font-src 'self' data:", "worker-src 'self' blob:", "object-src 'none'", "base-uri 'self'"),
        *("form-action 'self'", "frame-ancestors 'none'"),
    )
)
"""Content security policy that admits only resources of the web page itself."""
HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
TOKEN_FORM = """<!doctype html><meta charset="utf-8"><title>feller</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}
input,button{font:inherit;padding:.4rem .6rem}</style>
<p>This page requires a token: the value of <code>--token</code> of the person who started it.</p>
<form method="get" action="/"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<button>Enter</button></form>
"""


class Gate:
    """ASGI middleware in front of Gradio that checks requests (token, host, origin, route, size) and adds headers."""

    def __init__(self, app: Any, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one ASGI connection: reject it, or pass it to Gradio."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.requests import Request

        request = Request(scope, receive)
        answer = self.rejection(request)
        if answer is None and scope["path"] == JOIN:
            body = await request.body()
            answer = None if has_only_local_files(body) else plain_text_response(403, "external URLs are not allowed")
            messages = iter([{"type": "http.request", "body": body, "more_body": False}])

            async def replay() -> Any:
                return next(messages, None) or await receive()

            await (answer or self.app)(scope, replay, with_headers(send))
        else:
            await (answer or self.app)(scope, receive, with_headers(send))

    def rejection(self, request: Any) -> Any:
        """Return the response that rejects a request; None if the request is allowed."""
        path, headers = request.scope["path"], request.headers
        if not self.access.same_site(headers.get("host", ""), headers.get("origin")):
            return plain_text_response(403, "cross-origin requests are not allowed")
        if not self.access.admits(request.cookies) and path != STARTUP_ROUTE:
            return self.ask_token(request)
        if path not in ROUTES and not path.startswith(FOLDERS):
            return plain_text_response(404, "not found")
        if "://" in path:
            return plain_text_response(403, "external URLs are not allowed")
        if request.method not in ("GET", "HEAD", "POST"):
            return plain_text_response(405, "expected GET or POST")
        limit = 2 * UPLOAD_BYTES if path == "/gradio_api/upload" else JSON_BYTES
        length = headers.get("content-length", "" if request.method == "POST" else "0")
        if not length.isdecimal() or int(length) > limit:
            return plain_text_response(413, f"expected a content-length of at most {limit // 2**20} MB")
        return None

    def ask_token(self, request: Any) -> Any:
        """Return a response that sets the cookie if the query contains the right token, or else asks for the token."""
        from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

        path, query = request.scope["path"], request.url.query
        if path == MANIFEST:  # browsers request it without cookies
            return JSONResponse({})
        if path != "/" or request.method != "GET":
            return plain_text_response(401, "this page requires a token")
        typed = query.partition("token=")[2]
        if not any(map(self.access.is_token, (*parse_qs(query).get("token", []), typed, unquote(typed)))):
            return HTMLResponse(TOKEN_FORM, 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self.access.cookie, httponly=True, samesite="lax")
        return answer


def plain_text_response(status: int, why: str) -> Any:
    """Return a plain-text response of one line."""
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(f"{why}\n", status)


def has_only_local_files(body: bytes) -> bool:
    """Return True if no file path in a request body is a URL, which Gradio would fetch."""
    try:
        rest = [json.loads(body)]
    except (ValueError, RecursionError):
        return True  # Gradio rejects it
    while rest:
        value = rest.pop()
        if isinstance(value, dict) and "://" in str(value.get("path")):
            return False
        rest += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return True


def with_headers(send: Any) -> Any:
    """Wrap an ASGI `send` function to add the security headers to responses."""
    ours = {name.encode(): value.encode() for name, value in HEADERS.items()}

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            others = [pair for pair in message.get("headers", ()) if pair[0].lower() not in ours]
            message = {**message, "headers": [*others, *ours.items()]}
        await send(message)

    return sent


def serve(
    runs: Callable[[], Sequence[Run]],
    *,
    access: Access = Access(),
    rewards: tuple[str, ...] = (),
    memory: str | None = None,
    reporter: Reporter = SILENT,
) -> Access:
    """Serve the web page until it is interrupted.

    Args:
        runs: Function that returns the runs to show; called after checking that the address is free.
        access: Address and token; port 0 chooses a free port.
        rewards: Rewards offered for steering; their code is executed, so visitors cannot add any.
        memory: Datastore of documents for retrieval.
        reporter: Reporter that logs the address of the page.

    Returns:
        The address of the page, with the actual port.

    Raises:
        InputError: If a run is damaged, or the address is in use.
        UsageError: If Gradio is not installed.
    """
    access = Access(access.host, _free_port(access), access.token)
    with (
        tempfile.TemporaryDirectory(prefix="feller-page-", ignore_cleanup_errors=True) as folder,
        interrupt_event() as stop,
    ):
        reporter.log(f"opening {access.url}")
        place = pathlib.Path(folder).resolve()
        configure_gradio(place)
        with _running_server(runs(), access, place, rewards, memory):
            _announce(access, reporter)
            while not stop.wait(POLL_SECONDS):
                pass
            reporter.log("stopping")
    return access


@contextlib.contextmanager
def _running_server(
    runs: Sequence[Run], access: Access, folder: pathlib.Path, rewards: tuple[str, ...], memory: str | None
) -> Iterator[None]:
    """Run the server while the context is open; all files that it creates or receives are in `folder`."""
    from feller.app.webui.loaded_run import load_runs
    from feller.app.webui.page import build, warm_up
    from feller.app.webui.tab import PageContext
    from feller.app.webui.widgets import script, style, theme

    page = PageContext(runs=load_runs([*runs]), folder=folder, rewards=rewards, memory=memory)
    blocks = build(page)
    gate = importlib.import_module("starlette.middleware").Middleware(Gate, access=access)
    try:
        blocks.launch(
            server_name=urlsplit(access.url).netloc.rpartition(":")[0] if ":" in access.host else access.host,
            server_port=access.port,
            allowed_paths=[str(folder)],
            max_file_size=UPLOAD_BYTES,
            app_kwargs={"middleware": [gate], "openapi_url": None, "docs_url": None, "redoc_url": None},
            prevent_thread_lock=True,
            quiet=True,
            inbrowser=False,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            theme=theme(),
            css=style(),
            head=script(),
        )
    except OSError as error:
        raise InputError(
            f"cannot listen on {access.host}:{access.port}", remedy="Choose another --port, or 0 for any free one"
        ) from error
    threading.Thread(target=warm_up, args=(page,), daemon=True).start()
    try:
        yield
    finally:
        blocks.close(verbose=False)


def configure_gradio(folder: pathlib.Path) -> None:
    """Configure Gradio before its import: it stores all files in `folder`, and does not access the network.

    Pillow is also configured for the whole process, because Gradio itself decodes some images. Pillow then rejects
    decompression bombs, and PostScript files, which it would otherwise pass to Ghostscript.
    """
    EpsImagePlugin.gs_binary = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises an error above twice this value
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(folder), HF_HUB_OFFLINE="1")
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", NO_PROXY="*", no_proxy="*")  # Gradio requests its own address


def _free_port(access: Access) -> int:
    """Return the requested port if it is free, or any free port for port 0; InputError if the port is in use."""
    host = access.host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, access.port))
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{access.port} ({error.strerror or error})",
                remedy="Choose another --port, or 0 for any free one",
            ) from error
        return probe.getsockname()[1]


def _announce(access: Access, reporter: Reporter) -> None:
    """Log the URL of the web page, without the access token."""
    reporter.log(f"the page is at {access.url}; stop it with Ctrl-C")
    if access.token is not None:
        reporter.log(f"users open {access.url}?token=..., with the value of --token, or enter it on the page")
    if not is_loopback(access.host):
        reporter.log("plain HTTP: the token is visible in the network traffic; use a TLS proxy or ssh -L")

"""What passes the guard before the page, request by request; no server is needed."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from feller.app.webui.access import Door, Guarded
from feller.app.webui.limits import Limits, Scratch

TOKEN = "not-to-be-guessed-1"
JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"


def request(
    scratch: Scratch,
    path: str,
    *,
    method: str = "GET",
    door: Door | None = None,
    body: bytes = b"",
    query: str = "",
    parts: int = 1,
    limits: Limits | None = None,
    answered: Mapping[str, str] | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes, bytes | None]:
    """Ask; returns status, headers, answer, and what the application read, None if it was not reached."""
    reached: list[bytes] = []
    own = [(name.encode(), value.encode()) for name, value in (answered or {"referrer-policy": "unsafe-url"}).items()]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        read = await receive() if scope["method"] == "POST" else {"body": b""}
        reached.append(read["body"])
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b"in"})

    sent: list[Any] = []
    size = -(-len(body) // parts) or 1
    pieces = [body[i * size : (i + 1) * size] for i in range(parts)]
    messages = [{"type": "http.request", "body": p, "more_body": i < parts - 1} for i, p in enumerate(pieces)]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    guarded = Guarded(app, door or Door(), scratch, limits or Limits())
    asyncio.run(guarded(scope, receive, send))
    answers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answers, sent[1]["body"], reached[0] if reached else None


def test_the_page_passes_with_a_policy_that_loads_nothing_from_elsewhere(scratch: Scratch) -> None:
    status, headers, body, _ = request(scratch, "/")
    assert (status, body) == (200, b"in")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["default-src"] == "'self'"
    assert all("http" not in sources and "*" not in sources for sources in policy.values())
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/deep_link",
        "/gradio_api/run/sample",
        "/gradio_api/call/sample",
        "/gradio_api/custom_component/1/client/component/index.js",
        "/gradio_api/dev/reload",
        "/gradio_api/vibe-code",
        "/monitoring",
        "/login",
        "/docs",
        "/openapi.json",
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(scratch: Scratch, path: str) -> None:
    assert request(scratch, path)[0] == 404


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/ssh/host_key", "etc/passwd", "http://x.example/a.png", "\x00"])
def test_files_outside_the_folder_of_the_page_are_not_read(scratch: Scratch, path: str) -> None:
    assert request(scratch, f"/gradio_api/file={path}")[0] == 403
    assert request(scratch, f"/gradio_api/file={scratch.path}/../../{path}")[0] == 403


def test_links_out_of_the_folder_are_not_followed(scratch: Scratch, tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("secret")
    (scratch.results / "link").symlink_to(tmp_path / "secret")
    assert request(scratch, f"/gradio_api/file={scratch.results}/link")[0] == 403
    (scratch.results / "own").write_text("own")
    assert request(scratch, f"/gradio_api/file={scratch.results}/own")[0] == 200


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        *(("text/html; charset=utf-8", False), ("image/svg+xml", False), ("text/xml", False), ("text/csv", False)),
        *(("application/octet-stream", False), ("", False), ("image/png", True), ("audio/wav", True)),
    ],
)
def test_no_file_of_a_visitor_is_a_page_of_ours(scratch: Scratch, kind: str, shown: bool) -> None:
    """What is uploaded can be asked for by others: were it a page from here, its scripts would act in their names."""
    (scratch.uploads / "a").write_text("<script>alert(1)</script>")
    named = {
        "content-type": kind,
        "content-disposition": 'inline; filename="a"',
        "content-security-policy": "script-src *",
    }
    path = f"/gradio_api/file={scratch.uploads}/a"
    _, headers, _, _ = request(scratch, path, answered=named if kind else {})
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers.get("content-disposition", "").startswith("inline" if shown else "attachment")
    assert headers.get("content-type", "") == kind


def test_other_hosts_and_origins_are_refused(scratch: Scratch) -> None:
    assert request(scratch, "/", host="evil.example")[0] == 403
    assert request(scratch, JOIN, method="POST", body=b"{}", origin="http://evil.example")[0] == 403
    assert request(scratch, JOIN, method="POST", body=b"{}", origin="http://127.0.0.1:7860")[0] == 200
    assert request(scratch, JOIN, method="DELETE")[0] == 405


def test_the_token_is_asked_for_on_every_route(scratch: Scratch) -> None:
    door = Door("0.0.0.0", token=TOKEN)
    status, _, body, reached = request(scratch, "/", door=door)
    assert (status, reached) == (401, None)
    assert b'name="token"' in body
    for path in ("/config", "/assets/x.js", f"/gradio_api/file={scratch.path}/x", "/gradio_api/queue/data"):
        assert request(scratch, path, door=door)[0] == 401
    assert request(scratch, JOIN, method="POST", body=b"{}", door=door)[0] == 401
    assert request(scratch, "/", door=door, query="token=wrong")[0] == 401


@pytest.mark.parametrize("token", ["a+b&c=d%41;e/f?gh+", "%%%%%%%%%%%%%%%%", "token=token=token=", TOKEN])
def test_a_token_is_read_as_it_was_written_or_as_a_browser_writes_it(scratch: Scratch, token: str) -> None:
    door = Door("0.0.0.0", token=token)
    for query in (f"token={token}", f"token={quote(token, safe='')}", urlencode({"token": token})):
        assert request(scratch, "/", door=door, query=query)[0] == 303
    for query in (f"token={token}x", f"{token}", "token=", ""):
        assert request(scratch, "/", door=door, query=query)[0] == 401


def test_what_browsers_ask_for_without_cookies_tells_nothing(scratch: Scratch) -> None:
    status, _, body, reached = request(scratch, "/manifest.json", door=Door("0.0.0.0", token=TOKEN))
    assert (status, body, reached) == (200, b"{}", None)


def test_the_right_token_becomes_a_cookie_and_leaves_the_address(scratch: Scratch) -> None:
    door = Door("0.0.0.0", token=TOKEN)
    status, headers, _, reached = request(scratch, "/", door=door, query=f"token={TOKEN}")
    assert (status, headers["location"], reached) == (303, "/", None)
    assert "HttpOnly" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert request(scratch, "/", door=door, cookie=cookie)[0] == 200


@pytest.mark.parametrize("parts", [1, 7])
def test_requests_that_are_too_large_are_refused_however_long_they_say_they_are(scratch: Scratch, parts: int) -> None:
    limits = Limits(upload=1000)
    assert request(scratch, UPLOAD, method="POST", body=b"x" * 1000, limits=limits, parts=parts)[3] == b"x" * 1000
    assert request(scratch, UPLOAD, method="POST", body=b"x" * 1001, limits=limits, parts=parts)[0] == 413
    assert request(scratch, UPLOAD, method="POST", content_length="1001", limits=limits)[0] == 413
    assert request(scratch, UPLOAD, method="POST", content_length="-1", limits=limits)[0] == 413
    assert request(scratch, JOIN, method="POST", body=b"[" + b"1," * 3 * 2**20 + b"1]")[0] == 413


@pytest.mark.parametrize("place", ["/etc/passwd", "https://x.example/a.png", "../uploads", "", 5, ["/etc/passwd"]])
def test_requests_name_no_file_but_their_own_uploads(scratch: Scratch, place: Any) -> None:
    body = json.dumps({"data": [{"background": {"path": place, "meta": {"_type": "gradio.FileData"}}}]}).encode()
    assert request(scratch, JOIN, method="POST", body=body)[0] == 403


def test_own_uploads_pass(scratch: Scratch) -> None:
    (scratch.uploads / "a.png").write_bytes(b"a")
    body = json.dumps({"data": [1, None, {"path": str(scratch.uploads / "a.png")}]}).encode()
    assert request(scratch, JOIN, method="POST", body=body)[3] == body


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_refused(scratch: Scratch, body: bytes) -> None:
    assert request(scratch, JOIN, method="POST", body=body)[0] == 400

"""Requests and answers as messages: read whole, given once more, refused in words."""

from collections.abc import Callable, Sequence

from feller.app.webui.front import Message, Receive, Send
from feller.app.webui.offline import HEADERS

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

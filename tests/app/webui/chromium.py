"""Headless Chromium, driven through the pipe of its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1300,1100"),
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
VISIBLE = "[...document.querySelectorAll('{what}')].filter(e => e.offsetParent !== null)"
"""Elements that are seen."""
ARRIVED = "document.querySelectorAll('button[role=tab]').length > 4"
"""The page has its tabs."""
PATIENCE = 180.0
"""Seconds, on a busy machine."""


def browser():
    """Return where a browser is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """One page; keeps what its console said, and the addresses that it requested."""

    def __init__(self, ears: int, mouth: int) -> None:
        self._ears, self._mouth, self._rest = ears, mouth, b""
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        self.requested_urls: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable", of_page=True)

    def call(self, method: str, *, of_page: bool = False, **parameters: Any) -> dict[str, Any]:
        """Ask the browser, and hear what happens meanwhile."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if of_page else {}
        message = {"id": number, "method": method, "params": parameters, **session}
        os.write(self._mouth, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            heard = self._next(deadline)
            if heard.get("id") == number:
                if "error" in heard:
                    raise AssertionError(heard["error"])
                return heard["result"]
        raise AssertionError(f"no answer to {method}")

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._ears], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError("the browser says nothing")
            self._rest += os.read(self._ears, 2**16)
        line, self._rest = self._rest.split(b"\0", 1)
        heard = json.loads(line)
        self._note(heard.get("method"), heard.get("params", {}))
        return heard

    def _note(self, method: str | None, found: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requested_urls.append(found["request"]["url"])
        elif method == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(f"{found['entry']['text']} {found['entry'].get('url', '')}")
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(found["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and found["type"] == "error":
            self.errors.append(str([one.get("value", one.get("description")) for one in found["args"]]))

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", of_page=True, url=url)

    def reload(self, ready: str) -> None:
        """Reload the page, and wait until an expression is true; errors of requests that this aborts do not count."""
        errors = [*self.errors]
        self.open(self.run("window.location.href"))  # returns when the new page is there; `reload` returns before
        self.wait(f"document.querySelector('canvas') === null && {ready}")
        self.errors[:] = errors

    def run(self, script: str) -> Any:
        """Return what an expression of the page is."""
        found = self.call("Runtime.evaluate", of_page=True, expression=script, returnByValue=True)
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.run(script):
                return
            time.sleep(0.25)
        raise AssertionError(f"never came true: {script}; the console said {self.errors}")

    def rest(self, milliseconds: int) -> None:
        """Wait, where nothing in the page tells that it is ready, such as what is on a canvas."""
        self.wait(f"performance.now() > (window.since ??= performance.now()) + {milliseconds}")
        self.run("delete window.since")

    def press(self, name: str, role: str = "button") -> None:
        """Press the visible button, or tab, with a name."""
        found = (
            f"[...document.querySelectorAll('{role}')]"
            f".find(e => e.innerText.trim() === {json.dumps(name)} && e.offsetParent !== null)"
        )
        self.wait(f"!!({found})")
        self.run(f"({found}).click()")

    def type(self, label: str, text: str) -> None:
        """Write into the visible field whose label begins so."""
        found = f"{VISIBLE.format(what='label')}.find(e => e.innerText.trim().startsWith({json.dumps(label)}))"
        self.wait(f"!!({found})")
        self.run(
            f"(() => {{ const field = ({found}).querySelector('textarea, input');"
            " const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;"
            f" Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, {json.dumps(text)});"
            " field.dispatchEvent(new Event('input', {bubbles: true}));"
            " field.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def upload(self, path: pathlib.Path) -> None:
        """Choose a file in the first place for one of the tab that is open."""
        fields = "[...document.querySelectorAll('input[type=file]')]"
        script = f"{fields}.find(e => e.closest('[role=tabpanel] [role=tabpanel]').offsetParent !== null)"
        self.wait(f"!!({script})")
        found = self.call("Runtime.evaluate", of_page=True, expression=script)["result"]
        self.call("DOM.setFileInputFiles", of_page=True, files=[str(path)], objectId=found["objectId"])

    def draw(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag over the visible canvas, from one place to another, in shares of its width and height."""
        canvas = f"{VISIBLE.format(what='canvas')}[0]"
        self.wait(f"!!({canvas})")
        self.run(f"{canvas}.scrollIntoView({{block: 'center'}})")
        left, top, width, height = self.run(
            f"(() => {{ const r = {canvas}.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }})()"
        )
        places = [tuple(a + (b - a) * share / 8 for a, b in zip(begin, end, strict=True)) for share in range(9)]
        places = [(left + x * width, top + y * height) for x, y in places]
        moves = [("mouseMoved", places[0], 0), ("mousePressed", places[0], 1)]
        moves += [("mouseMoved", one, 1) for one in places[1:]] + [("mouseReleased", places[-1], 0)]
        for kind, (x, y), buttons in moves:
            more = {"x": x, "y": y, "buttons": buttons, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", of_page=True, type=kind, **more)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", of_page=True, **size)

    def picture(self, path: pathlib.Path) -> None:
        """Write what the page looks like."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", of_page=True)["data"]))


@contextlib.contextmanager
def chromium(home):
    """Start a browser with a profile of its own, and end it."""
    theirs, mouth = os.pipe()
    ears, ours = os.pipe()
    command = [str(browser()), *FLAGS, f"--user-data-dir={home}", "--remote-debugging-pipe"]

    # the protocol is spoken on descriptors 3 and 4
    script = f'exec "$@" 3<&{theirs} 4>&{ours}'
    own = subprocess.Popen(["bash", "-c", script, "bash", *command], pass_fds=(theirs, ours), stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.close(ours)
    try:
        yield Chromium(ears, mouth)
    finally:
        own.terminate()
        own.wait(PATIENCE)
        os.close(ears)
        os.close(mouth)

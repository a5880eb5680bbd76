"""A page that is served by a process of its own, and what asks it by HTTP as a browser does."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 300
"""Seconds, on a busy machine."""


@dataclass
class Client:
    """Asks a page; `ranks` are the positions in the queue that it was told."""

    url: str
    cookie: str = ""
    ranks: list[int] = field(default_factory=list)
    own: "subprocess.Popen[str] | None" = None
    """The process that serves it."""

    def get(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"cookie": self.cookie} if self.cookie else {}
        request = urllib.request.Request(f"{self.url}{path}", body, named)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read()

    def config(self) -> dict[str, Any]:
        return json.loads(self.get("config"))

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file, and return what names it in a request."""
        head = f'--part\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        body = head + content + b"\r\n--part--\r\n"
        (path,) = json.loads(self.get("gradio_api/upload", body, content_type="multipart/form-data; boundary=part"))
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def names(self) -> list[str]:
        return [one["api_name"] for one in self.config()["dependencies"] if one.get("api_name")]

    def usual(self, name: str) -> list[Any]:
        """Return what the page sends where nobody has set anything."""
        config = self.config()
        which = next(one for one in config["dependencies"] if one.get("api_name") == name)
        values = {one["id"]: one["props"].get("value") for one in config["components"]}
        return [values[number] for number in which["inputs"]]

    def ask(self, name: str, data: list[Any], session: str = "only") -> dict[str, Any]:
        """Press a button, wait, and return the last message."""
        which = next(one["id"] for one in self.config()["dependencies"] if one.get("api_name") == name)
        body = json.dumps({"data": data, "fn_index": which, "session_hash": session}).encode()
        self.get("gradio_api/queue/join", body, content_type="application/json")
        headers = {"cookie": self.cookie} if self.cookie else {}
        request = urllib.request.Request(f"{self.url}gradio_api/queue/data?session_hash={session}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as lines:
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "estimation":
                    self.ranks.append(message["rank"])
                if message["msg"] in ("process_completed", "unexpected_error"):
                    return message
        raise AssertionError("the page broke off")


@contextlib.contextmanager
def served(runs, *words, home=None, port=0):
    """Serve runs, on a free port unless one is named, until the end of the block; the page's folder is in `home`."""
    command = [sys.executable, "-m", "feller", "serve", *map(str, runs), "--port", str(port), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"TMPDIR": str(home)} if home else {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as own:
        try:
            told: list[str] = []
            for line in own.stderr:
                told.append(line)
                if "the page is at " in line:
                    break
            else:
                raise AssertionError("".join(told))
            yield Client(line.split("the page is at ")[1].split(";")[0], own=own)
        finally:
            own.terminate()
            deadline = time.monotonic() + PATIENCE
            while own.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            own.kill()


def status(client, path, body=None, **headers):
    """Return the status of an answer."""
    try:
        client.get(path, body, **headers)
    except urllib.error.HTTPError as error:
        return error.code
    return 200

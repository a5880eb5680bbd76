"""The served page, over HTTP."""

import contextlib
import http.client
import io
import json
import pathlib
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.app.webui.served import Client, served, status

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

MANY = 50


@pytest.fixture(scope="module")
def client(fitted):
    with served([fitted(name) for name in ("digits", "moons", "people", "book")]) as client:
        yield client


def test_tabs_of_each_run(client):
    names = client.names()
    assert {"0_sample", "0_fill_in", "0_fill_in_begin", "0_steer", "1_watch", "2_fill_in", "3_fill_in"} <= set(names)
    assert "1_steer" not in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["0_sample", "0_watch", "1_sample", "1_watch", "2_sample", "2_fill_in", "3_watch"])
def test_results_are_shown(client, name):
    found = client.ask(name, client.usual(name))
    assert found["success"], found
    message, *shown = found["output"]["data"]
    assert "wrong" not in message
    assert any(isinstance(one, dict) and one.get("visible") for one in shown)
    for one in shown:
        value = one.get("value") if isinstance(one, dict) else None
        for file in value if isinstance(value, list) else [value]:
            if isinstance(file, dict) and "path" in file:
                assert client.get(f"gradio_api/file={file['path']}")


def test_errors_are_one_line(client):
    found = client.ask("3_fill_in", ["ß", *client.usual("3_fill_in")[1:]])
    assert found["success"]
    message = found["output"]["data"][0]
    assert 'class="wrong"' in message
    assert "<br>" not in message
    found = client.ask("0_sample", [*client.usual("0_sample")[:-1], None])
    assert "Seed" in found["output"]["data"][0]


@pytest.mark.parametrize(
    ("place", "sent"), [(0, 10**6), (0, 0), (0, "abc"), (0, [1]), (1, "77"), (4, "x.py:own"), (-1, -5), (-1, 2**40)]
)
def test_values_out_of_range_are_refused(client, place, sent):
    data = client.usual("0_sample")
    data[place] = sent
    assert not client.ask("0_sample", data)["success"]
    assert client.ask("0_sample", [3, *client.usual("0_sample")[1:]])["success"]


def test_only_uploaded_images_are_read(client, fitted):
    picture = client.ask("0_fill_in_begin", [])["output"]["data"][0]["background"]
    data, file = client.usual("0_fill_in"), io.BytesIO()
    layer = Image.new("RGBA", (400, 400))
    layer.paste((255, 255, 255, 255), (0, 0, 200, 400))
    layer.save(file, "PNG")
    files = {"background": picture, "layers": [client.upload("layer.png", file.getvalue())], "composite": None}
    found = client.ask("0_fill_in", [files, 1, *data[2:]])
    assert "wrong" not in found["output"]["data"][0]
    own = pathlib.Path.cwd() / "README.md"
    for path in ("/etc/hostname", own):
        named = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        assert not client.ask("0_fill_in", [{**files, "background": named}, 1, *data[2:]])["success"]
    for path in ("/etc/hostname", own, *(fitted("digits") / name for name in ("weights.safetensors", "recipe.json"))):
        assert status(client, f"gradio_api/file={path}") == 403


def test_uploads_are_bounded(client):
    with contextlib.closing(http.client.HTTPConnection(urlsplit(client.url).netloc)) as line:
        line.putrequest("POST", "/gradio_api/upload")
        line.putheader("Content-Length", str(33 * 2**20))
        line.endheaders()
        assert line.getresponse().status == 413
    with pytest.raises(urllib.error.URLError):  # 413, or the line is cut while more comes
        client.upload("a.png", b"x" * (17 * 2**20))


def test_fifty_requests_at_once(client):
    """All are answered, and told their position."""
    data = [5, *client.usual("1_sample")[1:]]

    def one(number):
        own = Client(client.url)
        return own.ask("1_sample", data, f"session-{number}"), own.ranks

    with ThreadPoolExecutor(MANY) as threads:
        found = list(threads.map(one, range(MANY)))
    assert [message["success"] for message, _ in found] == [True] * MANY
    assert all("wrong" not in message["output"]["data"][0] for message, _ in found)
    assert all(ranks for _, ranks in found)
    assert max(rank for _, ranks in found for rank in ranks) > 10


def test_page_loads_nothing_from_elsewhere(client):
    page = client.get("").decode()
    for tag in ("<script src=", "<link"):
        for part in page.split(tag)[1:]:
            assert "http" not in part.partition(">")[0].replace(client.url, "")


def test_stopped_page_removes_its_folder(fitted, tmp_path):
    with served([fitted("moons")], home=tmp_path) as client:
        assert len(list(tmp_path.glob("feller-page-*"))) == 1
        assert client.ask("sample", [3, *client.usual("sample")[1:]])["success"]
    assert not list(tmp_path.glob("feller-page-*"))


def test_page_that_is_stopped_while_it_samples(fitted, tmp_path):
    with served([fitted("digits")], home=tmp_path) as client:
        which = next(one["id"] for one in client.config()["dependencies"] if one.get("api_name") == "sample")
        data = client.usual("sample")
        body = {"data": [256, *data[1:3], 1000, *data[4:]], "fn_index": which, "session_hash": "only"}
        client.get("gradio_api/queue/join", json.dumps(body).encode(), content_type="application/json")
        asking = urllib.request.urlopen(f"{client.url}gradio_api/queue/data?session_hash=only")
        while b"process_starts" not in asking.readline():
            pass
        time.sleep(2)
        client.own.send_signal(signal.SIGINT)
        assert client.own.wait(30) == 0
        assert client.own.stderr.read().splitlines() == ["stopping"]
    assert not list(tmp_path.glob("feller-page-*"))

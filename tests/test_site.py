"""Links, external loads and generated tables of the docs."""

import importlib.util
import pathlib
import re
import subprocess
import sys
from types import ModuleType

import pytest

import feller

ROOT = pathlib.Path(__file__).parent.parent


def script(path: str) -> ModuleType:
    """Import a script."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = script("scripts/check_site.py")


def write(root: pathlib.Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_links_of_the_pages_resolve():
    found = [link for page in check.pages() for link in check.links(page)]
    assert len(found) > 150  # the pages were read
    assert not list(check.broken())


LINKS = (
    *("[a](gone.md)", "![a](pictures/gone.png)", "[a](other.md#gone)", "[a](#gone)", "[a](../../etc/passwd)"),
    *("[a](../README.md#gone)", "[a](http:/half.org)", "[a](ftp://example.org)", "[a](https://example.org:port/)"),
    *("{download}`the sound <sounds/gone.opus>`", "[![a](here.png)](gone.md)"),
)


@pytest.mark.parametrize("link", LINKS)
def test_broken_links_are_reported_with_their_line(tmp_path, link):
    write(tmp_path, "README.md", "# Read me\n")
    write(tmp_path, "docs/here.png", "")
    write(tmp_path, "docs/other.md", "# Other\n\n```text\n# gone\n```\n")
    write(tmp_path, "docs/page.md", f"# Page\n\nWords, and {link}, and <https://spaced .org>, which is no link.\n")
    (found,) = check.broken(tmp_path)
    assert found.startswith("docs/page.md:3: ")


def test_valid_links_pass(tmp_path):
    write(
        tmp_path,
        "README.md",
        "# Read me\n\n[docs](docs/page.md#two-words-and-code) [site](https://example.org/a_(b))\n",
    )
    write(
        tmp_path,
        "docs/page.md",
        "# Page\n\n## Two words, and `code`\n\n[up](../README.md) [here](#page) `[no](link.md)`\n",
    )
    assert not list(check.broken(tmp_path))


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/a.css">',
        '<img src="http://example.org/a.png">',
        '<img src="gone.png">',
        '<a href="gone.html">a</a>',
        '<a href="#gone">a</a>',
    ],
)
def test_external_loads_and_broken_links_of_built_pages_are_reported(tmp_path, body):
    write(tmp_path, "page.html", f"<html><body>{body}</body></html>")
    assert len(list(check.broken_site(tmp_path))) == 1


def test_valid_built_pages_pass(tmp_path):
    write(tmp_path, "a.css", "body { color: black }")
    write(
        tmp_path,
        "page.html",
        '<link rel="stylesheet" href="a.css?v=1"><p id="x"><a href="#x">a</a><a href="https://example.org">b</a></p>',
    )
    assert not list(check.broken_site(tmp_path))


def test_external_loads_of_style_sheets_are_reported(tmp_path):
    write(tmp_path, "page.html", "<p></p>")
    write(tmp_path, "a.css", "@font-face { src: url('https://fonts.example.org/a.woff2') }")
    assert len(list(check.broken_site(tmp_path))) == 1


def test_pictures_of_the_pages_are_small():
    files = [*(ROOT / "docs/pictures/gallery").glob("*.png"), *(ROOT / "docs/pictures/journeys").glob("*.png")]
    assert len(files) >= 15
    assert {file.name: file.stat().st_size for file in files if file.stat().st_size > 100_000} == {}


@pytest.mark.slow
def test_the_site_builds_without_external_loads(tmp_path):
    words = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(check.broken_site(tmp_path))
    assert "<math" in (tmp_path / "concepts" / "likelihood.html").read_text()
    assert (tmp_path / "searchindex.js").is_file()


def test_every_public_name_is_in_the_api_table():
    """Where it is documented, by the page of its module."""
    index = (ROOT / "docs/reference/api/index.md").read_text()
    shown = dict(re.findall(r"\{py:obj\}`(\w+) <([\w.]+)>`", index))
    pages = (ROOT / "docs/reference/api").glob("*.md")
    modules = re.findall(r"automodule:: (\S+)", "".join(page.read_text() for page in pages))
    assert set(shown) == {*feller.__all__} - {"__version__", "testing"}
    for name, place in shown.items():
        module, _, own = place.rpartition(".")
        assert module in modules, name
        code = (ROOT / "src" / pathlib.Path(*module.split("."))).with_suffix(".py")
        code = code if code.is_file() else code.with_suffix("") / "__init__.py"
        assert re.search(rf"^(class|def) {own}\b|^{own} = ", code.read_text(), re.MULTILINE), name
        assert getattr(importlib.import_module(module), own) is getattr(feller, name), name

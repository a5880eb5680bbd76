"""What visitors are told, and what they are not."""

import json
import pathlib
from collections.abc import Callable

import pytest

from feller.app.webui.limits import Limits
from feller.app.webui.loaded_run import Opened
from feller.app.webui.run_request import Heard, Wrong, ask, page_without_folders, without_folders
from feller.app.webui.tab import Outcome, Tab
from feller.core.errors import InputError
from feller.core.run_folder import Run


def tab(does: Callable[[], Outcome]) -> Tab:
    return Tab(about="", controls={}, does=lambda answers, tell: does(), shows=())


def said_of(text: str) -> str:
    def fails() -> Outcome:
        raise InputError(text)

    with pytest.raises(Wrong) as wrong:
        ask(tab(fails), {}, Limits(), Heard())
    return str(wrong.value)


def test_folders_are_left_out_of_what_is_said_and_the_rest_stays() -> None:
    assert said_of("no /home/me/runs/digits/model.json; see 3/4 of it") == "no model.json; see 3/4 of it"
    assert said_of("fit('/srv/my data') at http://x.example/a/b") == "fit('my data') at http://x.example/a/b"

    heard = Heard()
    heard.say("from /srv/a.csv")
    found = ask(tab(lambda: Outcome(said="read /srv/people.csv")), {}, Limits(), heard)
    assert found.said == "from a.csv\nread people.csv"


RUNS = tuple(
    Opened(Run(pathlib.Path(path)), pathlib.Path(path).name, None) for path in ("runs/gone", "../my runs/b", "here")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("expected a file runs/gone/model.json, found none", "expected a file model.json, found none"),
        ("make one with: feller evaluate 'runs/gone'", "make one with: feller evaluate 'gone'"),
        ("'../my runs/b' and runs/gone.", "'b' and gone."),
        ("runs/gone-2/a, other/runs/gone and 3/4", "runs/gone-2/a, other/runs/gone and 3/4"),
        ("here/model.json is there", "here/model.json is there"),
    ],
)
def test_runs_are_called_by_their_names(text: str, said: str) -> None:
    assert without_folders(text, {str(one.run.path): one.name for one in RUNS}) == said


def test_reports_name_no_folders_and_stay_as_they_are_otherwise() -> None:
    words = "".join(
        f"<span>{word}</span> " for word in ("feller", "fit", "/srv/a.csv", "--out", "runs/x", "&#x27;b/c", "d&#x27;")
    )
    text = "<style>a/*/b/*/c{}</style><p title='/a/b'>/srv/x/a.csv &amp; 3/4 &lt;</p>"
    page = f'{text}<code class="command">{words}</code>'
    told = page_without_folders(page, {})
    assert told == page.replace("/srv/x/a.csv", "a.csv").replace("/srv/a", "a").replace("runs/x", "x").replace(
        "b/c", "c"
    )
    assert page_without_folders("<p>of data/a.csv &lt;", {"data/a.csv": "a.csv"}) == "<p>of a.csv &lt;"


def test_a_run_that_was_removed_is_said_to_be_gone(tmp_path: pathlib.Path) -> None:
    own, other = (Opened(Run(tmp_path / name), name, None) for name in ("own", "other"))

    def fails() -> Outcome:
        raise InputError(f"expected a file {tmp_path}/other/model.json, found none")

    for there, name in ((), "own"), (("own",), "other"):
        for each in there:
            (tmp_path / each).mkdir()
        with pytest.raises(Wrong, match=f"^the run {name} is no longer there$"):
            ask(tab(fails), {}, Limits(), Heard(), (own, other))
    (tmp_path / "other").mkdir()
    with pytest.raises(Wrong, match=r"^expected a file model.json, found none$"):
        ask(tab(fails), {}, Limits(), Heard(), (own, other))


def test_a_fault_of_ours_tells_nothing_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> Outcome:
        raise KeyError("secret")

    with pytest.raises(Wrong, match="fault of feller") as wrong:
        ask(tab(fails), {}, Limits(), Heard())
    assert "secret" not in str(wrong.value)
    assert "secret" in capsys.readouterr().err


def test_runs_are_named_as_they_were_and_files_without_folders(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is typed where the page was started works; folders elsewhere are not told."""
    monkeypatch.chdir(tmp_path)
    for path, told in (
        ("runs/one", "runs/one"),
        (str(tmp_path / "runs/one"), "runs/one"),
        ("../one", "one"),
        ("/srv/one", "one"),
    ):
        one = Opened(Run(pathlib.Path(path)), "one", None)
        assert one.folder == told
        assert without_folders(f"feller evaluate {path}", one.places) == f"feller evaluate {told}"
        page = f'<code class="command"><span>feller</span> <span>{path}</span> <span>d/one</span></code>'
        assert page_without_folders(page, one.places) == page.replace(path, told).replace("d/one", "one")


def test_files_of_a_bridge_are_named_without_their_folders(
    bridged: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((bridged / "recipe.json").read_text())
    record["bridged"] |= {"populations": ["d/a.csv", "d/b.csv"], "costs": ["2 * d/room.png", "e/own.py:walls"]}
    monkeypatch.setattr(Run, "read_record", lambda *_: record)
    one = Opened(Run(bridged), "run", None)
    said = without_folders("u.csv lies far from d/a.csv; d/room.png, e/own.py:walls and 3/4", one.places)
    assert said == "u.csv lies far from a.csv; room.png, own.py:walls and 3/4"

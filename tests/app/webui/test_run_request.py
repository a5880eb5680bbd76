"""What visitors are told, and what they are not."""

import pathlib
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.run_request import (
    MAX_LETTERS,
    MAX_ROWS,
    RequestError,
    RequestReporter,
    RequestStopped,
    RunningRequests,
    check_answers,
    page_without_folders,
    run_tab,
    with_labels,
)
from feller.app.webui.tab import Tab, TabResult
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run

CONTROLS: dict[str, Any] = {
    "text": SimpleNamespace(label="Text"),
    "n": SimpleNamespace(label="Number of samples", minimum=1, maximum=9),
    "seed": SimpleNamespace(label="Seed", minimum=0, maximum=9),
}


def tab(does):
    return Tab(name="", description="", controls=CONTROLS, handler=lambda answers, tell: does(), outputs=())


def failing(error, *runs):
    def fails():
        raise error

    with pytest.raises(RequestError) as wrong:
        run_tab(tab(fails), {}, RequestReporter(), runs)
    return str(wrong.value)


def test_folders_are_left_out_of_what_is_said_and_the_rest_stays():
    assert failing(InputError("no /home/me/runs/digits/model.json; see 3/4 of it")) == "no model.json; see 3/4 of it"
    told = failing(InputError("fit('/srv/my data') at http://x.example/a/b"))
    assert told == "fit('my data') at http://x.example/a/b"
    reporter = RequestReporter()
    reporter.log("from /srv/a.csv")
    found = run_tab(tab(lambda: TabResult(message="read /srv/people.csv, --seed 3")), {}, reporter)
    assert found.message == 'from a.csv\nread people.csv, "Seed" 3'
    page = "<style>a/*/b/*/c{}</style><p title='/a/b'>/srv/x/a.csv &amp; 3/4 &lt;</p>"
    assert page_without_folders(page) == page.replace("/srv/x/", "")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("expected words behind --text; found none", 'expected words behind "Text"; found none'),
        ("-n must be at least 1", '"Number of samples" must be at least 1'),
        ("leave --steps out, or --text.", 'leave --steps out, or "Text".'),
        ("--text-like, --text.width, un--text and a-n stay", "--text-like, --text.width, un--text and a-n stay"),
        ("as in `feller sample --text`, or --text", 'as in `feller sample --text`, or "Text"'),
        (
            "go on with: feller sample RUN --text X -n 3; or --text",
            'go on with: feller sample RUN --text X -n 3; or "Text"',
        ),
        ("nearly right; fit with --objective.shuffle_prob 1 to fill them exactly", "nearly right"),
    ],
)
def test_flags_are_called_as_the_page_calls_them(said, told):
    assert with_labels(said, CONTROLS) == told


def test_errors_name_labels_and_give_no_advice_on_fitting():
    assert failing(UsageError("at least 1", 0, argument="n")) == '"Number of samples": expected at least 1; found 0'
    assert failing(InputError("no", remedy="Fit with --objective.shuffle_prob 1")) == "no"
    assert failing(InputError("no", remedy="Leave --seed out")) == 'no. Leave "Seed" out'


def test_what_gradio_lets_through_is_checked():
    one = tab(lambda: TabResult())
    check_answers(one, {"text": "x" * MAX_LETTERS, "n": 3})
    for sent in ({"n": None}, {"text": "x" * (MAX_LETTERS + 1)}, {"text": [["a"]] * (MAX_ROWS + 1)}):
        with pytest.raises(UsageError):
            check_answers(one, sent)


def test_a_run_that_was_removed_is_said_to_be_gone(tmp_path):
    own, other = (LoadedRun(Run(tmp_path / name), name, None) for name in ("own", "other"))
    error = InputError(f"{tmp_path}/other/model.json: expected a file; found none")
    for there, name in ((), "own"), (("own",), "other"):
        for each in there:
            (tmp_path / each).mkdir()
        assert failing(error, own, other) == f"the run {name} is no longer there"


def test_runs_are_named_as_people_type_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"runs/one": "runs/one", str(tmp_path / "runs/one"): "runs/one", "../one": "one", "/srv/one": "one"}
    assert {path: LoadedRun(Run(pathlib.Path(path)), "one", None).folder for path in places} == places


def test_a_fault_of_ours_tells_nothing_of_itself(capsys):
    assert "secret" not in failing(KeyError("secret"))
    assert "secret" in capsys.readouterr().err


def test_a_share_is_told_where_it_is_known():
    told: list[tuple[float | None, str]] = []
    one = RequestReporter(lambda share, text: told.append((share, text)))
    one.start("drawing")
    one.progress(0.0)
    one.progress(0.5, "8 of 16")
    one.progress(1.5)
    assert told == [(None, "drawing ..."), (0.5, "drawing 8 of 16"), (1.0, "drawing")]


def test_what_is_stopped_says_no_more():
    """A page stops what it has asked for, and nobody else's; the next request goes on."""
    running, one = RunningRequests(), RequestReporter()
    with running.register("me", one):
        running.stop("you")
        one.progress(0.5)
        running.stop("me")
        for says in (lambda: one.progress(0.6), lambda: one.start("more"), lambda: one.log("more")):
            with pytest.raises(RequestStopped):
                says()
    running.stop("me")
    with running.register("me", RequestReporter()) as _:
        pass
    with pytest.raises(RequestError):
        run_tab(tab(lambda: TabResult()), {}, one)


def test_the_page_loads_neither_plots_nor_statistics_nor_bridges_before_it_needs_them():
    script = "import feller.app.webui.page, feller.app.webui.widgets as w; w.style(); import sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"gradio", "scipy.stats", "scipy.ndimage", "matplotlib", "sklearn", "feller.control.bridges.problem"}
    assert not heavy & set(found)

"""A report is read again: what it says, or one line that it was damaged."""

import json

import pytest

from feller.app.config import ExportConfig
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.tabs.compare_tab import compare_reports
from feller.app.workflows.export import export
from feller.app.workflows.run_status import ReportSummary, read_report_summary, read_undertrained_notice
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.evaluation.report.report_page import RunReport, write_report
from tests.errors import refuses
from tests.safety.specimen_runs import copied

DAMAGED = [
    [],
    {"numbers": []},
    {"numbers": {"a": [1]}},
    {"numbers": {"a": 10**400}},
    {"numbers": {"a": 1.0}, "explanations": []},
    {"numbers": {"a": 1.0}, "explanations": {"a": 1}},
    {"numbers": {"a": 1.0}, "verdict": ["x"]},
    {"sketch": 1},
]


def test_it_is_what_was_written(tmp_path):
    run = Run(tmp_path)
    assert read_report_summary(run) == ReportSummary()
    numbers = {"energy": 0.5, "steps": 3, "compared_with": "held-out data", "nll": float("nan"), "tv1": None}
    write_report(tmp_path, RunReport(title="a", numbers=numbers, sketch="c"))
    found = read_report_summary(run)
    assert (found.numbers, found.sketch) == ({**numbers, "nll": None}, "c")
    assert found.verdict.startswith("Undertrained: energy distance 0.500")
    assert found.explanations.keys() == {"energy", "steps", "compared_with", "nll", "tv1"} - {"steps"}
    (tmp_path / "report.json").rename(tmp_path / "other.json")
    (tmp_path / "report.json").symlink_to("other.json")
    assert read_report_summary(run) == ReportSummary()


@pytest.mark.portable
@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_one_is_told_in_a_line(tmp_path, content):
    run = copied(tmp_path / "r")
    (run.path / "report.json").write_text(json.dumps(content))
    one, two = LoadedRun(run, "one", None), LoadedRun(Run(tmp_path), "two", None)
    for read in (
        read_report_summary,
        read_undertrained_notice,
        lambda run: export(run, ExportConfig(to="huggingface")),
        lambda run: compare_reports(one, two),
    ):
        with refuses(InputError, file=str(run.path / "report.json")):
            read(run)


@pytest.mark.parametrize("content", [b"", b'{"numbers": {', b"\xff\xfe", b"not JSON"])
def test_what_is_no_json_is_written_anew(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with refuses(InputError, remedy=f"Rewrite it with: feller evaluate {tmp_path}"):
        read_report_summary(Run(tmp_path))


def test_strange_numbers_are_shown_as_missing(tmp_path):
    text = '{"numbers": {"energy": NaN, "steps": "x", "epsilon": true, "nll": 1e999}}'
    (tmp_path / "report.json").write_text(text)
    one, two = LoadedRun(Run(tmp_path), "one", None), LoadedRun(Run(tmp_path / "none"), "two", None)
    rows = compare_reports(one, two)
    assert {row[1] for row in rows.cells} == {"–", "x"}

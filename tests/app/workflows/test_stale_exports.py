"""Exports that are older than the run that holds them."""

import pathlib

from feller.app.cli import main
from feller.app.config import ExportConfig
from feller.app.workflows.export import export
from feller.core.run_folder import Run


def test_a_run_that_goes_on_tells_that_its_export_is_of_older_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    assert main(["fit", "example:moons", "--size", "tiny", "--steps", "2", "--out", "run"]) == 0
    _, record = export(Run(pathlib.Path("run")), ExportConfig(to="torch-export", guidance="1"))
    export(Run(pathlib.Path("run")), ExportConfig(to="huggingface"))
    assert record["step"] == 2
    capsys.readouterr()
    assert main(["fit", "--resume", "--out", "run", "--steps", "2"]) == 0
    assert "older weights" not in capsys.readouterr().err
    assert main(["fit", "--resume", "--out", "run", "--steps", "4"]) == 0
    said = capsys.readouterr().err
    again = "feller export run --to torch-export"
    assert f"run/export.pt2 has older weights than the run; export it again with: {again}\n" in said
    assert "run/huggingface has older weights" in said
    assert main(["export", "run", "--to", "huggingface"]) == 0
    from feller.app.workflows.hugging_face import stale_exports

    assert [line.split()[0] for line in stale_exports(Run(pathlib.Path("run")))] == ["run/export.pt2"]
    (tmp_path / "run" / "export.pt2.json").write_text("{")
    assert [*stale_exports(Run(pathlib.Path("run")))] == []

"""What is given and not known is refused before anything is drawn, or said to be."""

from feller.app.cli import main


def test_nothing_is_said_to_be_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    run = str(tmp_path / "run")
    assert main(["fit", "example:digits", "--size", "tiny", "--steps", "1", "--out", run]) == 0
    capsys.readouterr()
    assert main(["sample", run, "--given", "label=triangle"]) == 2
    said = capsys.readouterr().err
    assert "label" in said
    assert "sampling" not in said

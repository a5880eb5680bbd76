"""feller evaluate."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.app.commands.flag_types import CodeText, Counted, DataText, RunPlace, Text, short


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Compare samples of RUN, the newest by default, with real data, and write its report."""

    deep: ClassVar[str] = ""

    folder: RunPlace = None
    """The run folder."""
    data: DataText = None
    """Real data to compare with; by default those that the fit kept back."""
    samples: Text = None
    """Judge these samples, a file or a folder as `feller sample` writes them, instead of drawing new ones; the report
    is then called after them, report-NAME.html in the run, as it is with --data."""
    n: Annotated[Counted, short("-n")] = None
    """Samples that are drawn, or other examples that are measured; by default as many as are usual."""
    seed: int = 0
    """Of all randomness."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print the numbers as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.commands.resolve_run import find
        from feller.app.terminal import show, speaker
        from feller.app.workflows.evaluate import evaluate
        from feller.evaluation.effort import Effort

        tell = speaker()
        run = find(self.folder, self.code, tell)
        numbers = evaluate(
            run, data=self.data, samples=self.samples, seed=self.seed, effort=Effort(n=self.n), tell=tell
        )
        show(numbers, tell)
        return {"run": str(run.path), **numbers}

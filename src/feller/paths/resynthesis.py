"""The family of networks that make sounds of log mels, and draw none."""

from dataclasses import dataclass

from feller.paths.families import Timeless


@dataclass(frozen=True)
class Resynthesis(Timeless):
    """A path that is the sounds at all times: the network answers with what it makes of their log mels."""

    @property
    def instead(self) -> str:
        """Let it make sounds of a model's log mels."""
        return (
            "this run is a vocoder, which makes sounds of log mels and draws none; see how it copies some with `feller"
            " evaluate --data`, or name it as the vocoder of a run that draws speech"
        )

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network makes sounds of log mels and draws none; use its `sound`"

"""Who listens to sounds for a report: says how far it is, and keeps what was heard."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from feller.app.reporter import Tell
from feller.data.loading.raw import Sound
from feller.evaluation.speech.asr import Listener, Whisper
from feller.evaluation.speech.mos import Opinion, opinion


@dataclass(frozen=True, eq=False)
class Attentive(Listener):
    """Hears and rates sounds one by one."""

    count: int
    """Sounds that are heard, and then rated."""
    tell: Tell
    listener: Listener = field(default_factory=Whisper)
    heard: dict[Sound, str] = field(default_factory=dict)
    """What is said in each, as it was heard; grows."""
    rated: list[Sound] = field(default_factory=list)
    """Grows too."""

    def texts(self, sounds: Sequence[Sound]) -> list[str]:
        """Return what is said in each sound."""
        for sound in sounds:
            (self.heard[sound],) = self.listener.texts([sound])
            self.tell.progress(len(self.heard) / self.count / 2, f"{len(self.heard):,} of {self.count:,} heard")
        return [self.heard[sound] for sound in sounds]

    def rate(self, sound: Sound) -> Opinion:
        """Return how people would rate a sound."""
        found = opinion(sound)
        self.rated.append(sound)
        share = (1 + len(self.rated) / self.count) / 2
        self.tell.progress(min(share, 1.0), f"{len(self.rated):,} of {self.count:,} rated")
        return found

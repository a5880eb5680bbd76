"""All abilities, in the order of the page. A new one is a file in `tabs` and a line here."""

from feller.studio.opened import Opened
from feller.studio.tab import Ability, Place
from feller.studio.tabs.bridging import PUSH
from feller.studio.tabs.compare import COMPARE
from feller.studio.tabs.documents import ASK, DRAW, FILL_DOCUMENT
from feller.studio.tabs.fill import FILL_PICTURE, FILL_ROWS, FILL_TEXT
from feller.studio.tabs.follow import FOLLOW
from feller.studio.tabs.forming import WATCH
from feller.studio.tabs.reports import REPORTS
from feller.studio.tabs.restoring import RESTORE
from feller.studio.tabs.sample import SAMPLE
from feller.studio.tabs.speaking import DENOISE, EDIT, RESTYLE, SAY
from feller.studio.tabs.steering import STEER

ABILITIES = (
    *(SAMPLE, PUSH, SAY, DRAW, ASK, EDIT, DENOISE, RESTYLE),
    *(FILL_PICTURE, FILL_TEXT, FILL_ROWS, FILL_DOCUMENT, RESTORE),
    *(WATCH, STEER, COMPARE, REPORTS, FOLLOW),
)


def abilities_of(one: Opened, place: Place) -> tuple[Ability, ...]:
    """Return what a run can do."""
    return tuple(ability for ability in ABILITIES if ability.has(one, place))

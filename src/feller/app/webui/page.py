"""All abilities, in the order of the page. A new one is a file in `tabs` and a line here."""

from feller.app.webui.loaded_run import Opened
from feller.app.webui.tab import Ability, Place
from feller.app.webui.tabs.compare import COMPARE
from feller.app.webui.tabs.documents import ASK, DRAW, FILL_DOCUMENT
from feller.app.webui.tabs.fill import FILL_PICTURE, FILL_ROWS, FILL_TEXT
from feller.app.webui.tabs.follow import FOLLOW
from feller.app.webui.tabs.forming import WATCH
from feller.app.webui.tabs.restoring import RESTORE
from feller.app.webui.tabs.sample import SAMPLE
from feller.app.webui.tabs.steering import STEER
from feller.app.webui.tabs.tabs_bridging import PUSH
from feller.app.webui.tabs.tabs_reports import REPORTS
from feller.app.webui.tabs.tabs_speaking import DENOISE, EDIT, RESTYLE, SAY

ABILITIES = (
    *(SAMPLE, PUSH, SAY, DRAW, ASK, EDIT, DENOISE, RESTYLE),
    *(FILL_PICTURE, FILL_TEXT, FILL_ROWS, FILL_DOCUMENT, RESTORE),
    *(WATCH, STEER, COMPARE, REPORTS, FOLLOW),
)


def abilities_of(one: Opened, place: Place) -> tuple[Ability, ...]:
    """Return what a run can do."""
    return tuple(ability for ability in ABILITIES if ability.has(one, place))

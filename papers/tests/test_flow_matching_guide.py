"""The claims that need no training, and the form of all of them."""

import json

import pytest

from feller.app.cli import main
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE, Claim, mean_of, spread_of, verdict
from feller_papers.flow_matching_guide import fields, geometry, likelihood, transport
from feller_papers.flow_matching_guide.setting import Setting

EXACT = [
    fields.same_field,
    transport.kinetic_energy,
    geometry.closed_form,
    geometry.premetric,
    likelihood.change_of_variables,
    likelihood.hutchinson,
    likelihood.integrates_to_one,
    *(pytest.param(test, marks=pytest.mark.slow) for test in (fields.same_end, transport.transport_cost)),
]


@pytest.mark.slow
@pytest.mark.parametrize("test", EXACT)
def test_exact_claims_hold(test):
    for claim in test(Setting((0,), 1)):
        assert isinstance(claim, Claim)
        assert claim.verdict == HOLDS, claim


def test_words():
    assert verdict(True) == HOLDS
    assert verdict(False) == FAILS
    assert mean_of([1.0, 2.0]) == "1.5"
    assert spread_of([2.0, 1.0]) == "2 seeds, 1 to 2"


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_quick_run(capsys):
    assert main(["reproduce", "flow-matching-guide", "--quick", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert {claim["verdict"] for claim in claims} <= {HOLDS, FAILS, UNTESTABLE}
    assert set(claims[0]) == {"claim", "paper", "ours", "spread", "verdict"}
    assert sum(claim["verdict"] == HOLDS for claim in claims) >= 7

"""What is told about people, and what it costs them."""

from feller.privacy.accountant import delta, epsilon
from feller.privacy.calibrate import calibrate, steps_within
from feller.privacy.clipping import Adaptive, Clip, Fixed
from feller.privacy.concentrated import epsilon_of, rho_of
from feller.privacy.expense import Concentrated, Expense, Gaussian, Pure, Subsampled
from feller.privacy.gradient import Private
from feller.privacy.layers import register
from feller.privacy.ledger import Ledger, default_delta
from feller.privacy.noise import Noise, Repeatable, Secret
from feller.privacy.one_run import lower_bound
from feller.privacy.one_way import check_budget
from feller.privacy.renyi import renyi
from feller.privacy.rule import Call, Rule
from feller.privacy.sampling import poisson, poisson_batches
from feller.privacy.self_check import Verdict, self_check

__all__ = [
    "Adaptive",
    "Call",
    "Clip",
    "Concentrated",
    "Expense",
    "Fixed",
    "Gaussian",
    "Ledger",
    "Noise",
    "Private",
    "Pure",
    "Repeatable",
    "Rule",
    "Secret",
    "Subsampled",
    "Verdict",
    "calibrate",
    "check_budget",
    "default_delta",
    "delta",
    "epsilon",
    "epsilon_of",
    "lower_bound",
    "poisson",
    "poisson_batches",
    "register",
    "renyi",
    "rho_of",
    "self_check",
    "steps_within",
]

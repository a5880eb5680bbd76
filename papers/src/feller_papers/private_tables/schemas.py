"""Public schemas of tables that are not in the package: categories and bounds from documentation, not from rows.

The last column is the target. Sources: UCI Bank Marketing (Moro, Cortez and Rita 2014), UCI
Statlog German Credit (Hofmann 1994), IBM's sample of a telephone company, the census of California of 1990 (Pace and
Barry 1997), NIST Diverse Communities Data Excerpts, UCI Adult as integers with a domain file.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from feller.core.errors import InputError
from feller.data.tables.schema import Schema, parse_schema

Columns = dict[str, dict[str, Any]]
Number = int | float


def categorical(*values: str, **more: Any) -> dict[str, Any]:
    """Return a categorical column."""
    return {"kind": "categorical", "values": list(values), **more}


def numbered_categories(prefix: str, *numbers: int) -> dict[str, Any]:
    """Return a categorical column whose values are a prefix and a number."""
    return categorical(*(f"{prefix}{number}" for number in numbers))


def numerical(low: Number, high: Number, *edges: Number, decimals: int = 0, **more: Any) -> dict[str, Any]:
    """Return a numerical column; without edges, bins have equal width."""
    form = {"form": {"decimals": decimals}} if decimals else {}
    return {"kind": "numerical", "low": low, "high": high, **form, **({"edges": list(edges)} if edges else {}), **more}


YES_NO_UNKNOWN = ("no", "yes", "unknown")
INTERNET_SERVICE = ("No", "Yes", "No internet service")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

BANK: Columns = {
    "age": numerical(17, 100, *range(20, 80, 5)),
    "job": categorical(
        *("admin.", "blue-collar", "entrepreneur", "housemaid", "management", "retired", "self-employed"),
        *("services", "student", "technician", "unemployed", "unknown"),
    ),
    "marital": categorical("divorced", "married", "single", "unknown"),
    "education": categorical(
        *("basic.4y", "basic.6y", "basic.9y", "high.school", "illiterate", "professional.course"),
        *("university.degree", "unknown"),
    ),
    "default": categorical(*YES_NO_UNKNOWN),
    "housing": categorical(*YES_NO_UNKNOWN),
    "loan": categorical(*YES_NO_UNKNOWN),
    "contact": categorical("cellular", "telephone"),
    "month": categorical(*MONTHS),
    "day_of_week": categorical("mon", "tue", "wed", "thu", "fri"),
    "duration": numerical(0, 5000, 30, 60, 90, 120, 150, 180, 240, 300, 360, 420, 540, 720, 1000, 1500, 2500),
    "campaign": numerical(1, 60, 2, 3, 4, 5, 6, 8, 11, 16, 26),
    "pdays": numerical(0, 999, 1, 3, 4, 6, 7, 10, 15, 999),
    "previous": numerical(0, 10, 1, 2, 3, 5),
    "poutcome": categorical("failure", "nonexistent", "success"),
    "emp.var.rate": numerical(-4, 2, -2.5, -1.5, -0.5, 0.5, 1.2, decimals=1),
    "cons.price.idx": numerical(92, 95, decimals=3, bins=12),
    "cons.conf.idx": numerical(-51, -26, decimals=1, bins=12),
    "euribor3m": numerical(0, 6, decimals=3, bins=24),
    "nr.employed": numerical(4900, 5300, decimals=1, bins=16),
    "y": categorical("no", "yes"),
}
GERMAN: Columns = {
    "status": numbered_categories("A", 11, 12, 13, 14),
    "month": numerical(4, 72, 7, 10, 13, 16, 19, 25, 31, 37, 49),
    "credit_history": numbered_categories("A", 30, 31, 32, 33, 34),
    "purpose": numbered_categories("A", 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 410),
    "credit_amount": numerical(0, 20_000, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10_000),
    "savings": numbered_categories("A", 61, 62, 63, 64, 65),
    "employment": numbered_categories("A", 71, 72, 73, 74, 75),
    "investment_as_income_percentage": numbered_categories("", 1, 2, 3, 4),
    "personal_status": numbered_categories("A", 91, 92, 93, 94, 95),
    "other_debtors": numbered_categories("A", 101, 102, 103),
    "residence_since": numbered_categories("", 1, 2, 3, 4),
    "property": numbered_categories("A", 121, 122, 123, 124),
    "age": numerical(18, 75, 25, 30, 35, 40, 45, 50, 60),
    "installment_plans": numbered_categories("A", 141, 142, 143),
    "housing": numbered_categories("A", 151, 152, 153),
    "number_of_credits": numbered_categories("", 1, 2, 3, 4),
    "skill_level": numbered_categories("A", 171, 172, 173, 174),
    "people_liable_for": numbered_categories("", 1, 2),
    "telephone": numbered_categories("A", 191, 192),
    "foreign_worker": numbered_categories("A", 201, 202),
    "credit": numbered_categories("", 1, 2),
}
TELCO: Columns = {
    "customerID": {"kind": "identifier"},
    "gender": categorical("Female", "Male"),
    "SeniorCitizen": categorical("0", "1"),
    "Partner": categorical("No", "Yes"),
    "Dependents": categorical("No", "Yes"),
    "tenure": numerical(0, 72, 1, 2, 3, 5, 7, 10, 13, 19, 25, 31, 37, 43, 49, 55, 61, 67, 72),
    "PhoneService": categorical("No", "Yes"),
    "MultipleLines": categorical("No", "Yes", "No phone service"),
    "InternetService": categorical("DSL", "Fiber optic", "No"),
    **{
        name: categorical(*INTERNET_SERVICE)
        for name in ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV")
    },
    "StreamingMovies": categorical(*INTERNET_SERVICE),
    "Contract": categorical("Month-to-month", "One year", "Two year"),
    "PaperlessBilling": categorical("No", "Yes"),
    "PaymentMethod": categorical(
        "Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)"
    ),
    "MonthlyCharges": numerical(15, 120, decimals=2, bins=21),
    "TotalCharges": numerical(
        0, 9000, 50, 100, 200, 400, 600, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 7000, decimals=2, missing=""
    ),
    "Churn": categorical("No", "Yes"),
}
CALIFORNIA: Columns = {
    "longitude": numerical(-125, -114, decimals=2, bins=22),
    "latitude": numerical(32, 42, decimals=2, bins=20),
    "housing_median_age": numerical(1, 52, *range(5, 55, 5), 52, decimals=1),
    "total_rooms": numerical(0, 40_000, 500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10_000, decimals=1),
    "total_bedrooms": numerical(0, 6500, 100, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000, decimals=1, missing=""),
    "population": numerical(0, 36_000, 250, 500, 750, 1000, 1250, 1500, 2000, 2500, 4000, 6000, decimals=1),
    "households": numerical(0, 6100, 100, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000, decimals=1),
    "median_income": numerical(0, 15.0001, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, decimals=4),
    "ocean_proximity": categorical("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"),
    "median_house_value": numerical(14_999, 500_001, *range(50_000, 500_001, 25_000), decimals=1),
}


def public_schema(columns: Columns) -> Schema:
    """Return the schema of columns; values outside of the public range are clipped."""
    return parse_schema(json.dumps({"outside": "clip", "columns": columns}))


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("the public description of the table beside it", error, file=path) from error


def adult_codes_schema(folder: pathlib.Path) -> Schema:
    """Return the schema of Adult as integers, from its domain file."""
    ordered = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
    return public_schema(
        {
            name: numerical(0, levels - 1, bins=levels) if name in ordered else numbered_categories("", *range(levels))
            for name, levels in _read(folder / "adult_pgm-domain.json").items()
        }
    )


CENSUS_TARGET = "OWN_RENT"
"""Target column of the census excerpt."""
WEIGHT_EDGES = (25, 50, 75, 100, 150, 200, 300, 500)
CENSUS_EDGES: dict[str, Sequence[Number]] = {
    "DENSITY": (50, 100, 250, 500, 1000, 2000, 3000, 4000, 6000, 10_000, 20_000),
    "PINCP": (-1, 1, 5000, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000, 75_000, 100_000, 150_000, 250_000),
    "PWGTP": WEIGHT_EDGES,
    "WGTP": (1, *WEIGHT_EDGES),
}
"""Bin edges of skewed columns."""


def census_schema(folder: pathlib.Path) -> Schema:
    """Return the schema of the census excerpt of 2019, from the schema file of NIST."""
    columns = {
        name: _census_column(name, description)
        for name, description in _read(folder / "nist_national2019-schema.json")["schema"].items()
    }
    target = columns.pop(CENSUS_TARGET)
    return public_schema({**columns, CENSUS_TARGET: target})


def _census_column(name: str, description: dict[str, Any]) -> dict[str, Any]:
    if "values" in description:
        return categorical(*map(str, description["values"]))
    missing = {"missing": str(description["null_value"])} if description.get("has_null") else {}
    decimals = 0 if description["dtype"].startswith("int") or name == "POVPIP" else 1
    return numerical(description["min"], description["max"], *CENSUS_EDGES.get(name, ()), decimals=decimals, **missing)


TABLES: dict[str, tuple[str, Callable[[pathlib.Path], Schema]]] = {
    "Bank marketing": ("bank_additional_full.csv.gz", lambda folder: public_schema(BANK)),
    "Telco churn": ("telco_churn.csv.gz", lambda folder: public_schema(TELCO)),
    "California housing": ("california_housing.csv.gz", lambda folder: public_schema(CALIFORNIA)),
    "German credit": ("german_credit.csv.gz", lambda folder: public_schema(GERMAN)),
    "Adult in codes": ("adult_pgm.csv.gz", adult_codes_schema),
    "Census excerpt": ("nist_national2019.csv.gz", census_schema),
}
"""File and function from its folder to the public schema, by name of the table."""

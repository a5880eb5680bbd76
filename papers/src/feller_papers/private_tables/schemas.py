"""What is public about tables that are not inside the package: words and bounds of their documentation, not of rows.

The column that is told from the others comes last. Sources: UCI Bank Marketing (Moro, Cortez and Rita 2014), UCI
Statlog German Credit (Hofmann 1994), IBM's sample of a telephone company, the census of California of 1990 (Pace and
Barry 1997), NIST Diverse Communities Data Excerpts, UCI Adult as integers of a domain that is told beside it.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from feller.core.errors import InputError
from feller.data.tables.schema import Schema, parse_schema

Columns = dict[str, dict[str, Any]]
Number = int | float


def words(*values: str, **more: Any) -> dict[str, Any]:
    """Return a column of words."""
    return {"kind": "categorical", "values": list(values), **more}


def codes(stem: str, *numbers: int) -> dict[str, Any]:
    """Return a column of words that are a stem and a number."""
    return words(*(f"{stem}{number}" for number in numbers))


def number(low: Number, high: Number, *edges: Number, decimals: int = 0, **more: Any) -> dict[str, Any]:
    """Return a column of numbers, in equal bins where nothing else is said."""
    form = {"form": {"decimals": decimals}} if decimals else {}
    return {"kind": "numerical", "low": low, "high": high, **form, **({"edges": list(edges)} if edges else {}), **more}


YES = ("no", "yes", "unknown")
SERVICE = ("No", "Yes", "No internet service")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

BANK: Columns = {
    "age": number(17, 100, *range(20, 80, 5)),
    "job": words(
        *("admin.", "blue-collar", "entrepreneur", "housemaid", "management", "retired", "self-employed"),
        *("services", "student", "technician", "unemployed", "unknown"),
    ),
    "marital": words("divorced", "married", "single", "unknown"),
    "education": words(
        *("basic.4y", "basic.6y", "basic.9y", "high.school", "illiterate", "professional.course"),
        *("university.degree", "unknown"),
    ),
    "default": words(*YES),
    "housing": words(*YES),
    "loan": words(*YES),
    "contact": words("cellular", "telephone"),
    "month": words(*MONTHS),
    "day_of_week": words("mon", "tue", "wed", "thu", "fri"),
    "duration": number(0, 5000, 30, 60, 90, 120, 150, 180, 240, 300, 360, 420, 540, 720, 1000, 1500, 2500),
    "campaign": number(1, 60, 2, 3, 4, 5, 6, 8, 11, 16, 26),
    "pdays": number(0, 999, 1, 3, 4, 6, 7, 10, 15, 999),
    "previous": number(0, 10, 1, 2, 3, 5),
    "poutcome": words("failure", "nonexistent", "success"),
    "emp.var.rate": number(-4, 2, -2.5, -1.5, -0.5, 0.5, 1.2, decimals=1),
    "cons.price.idx": number(92, 95, decimals=3, bins=12),
    "cons.conf.idx": number(-51, -26, decimals=1, bins=12),
    "euribor3m": number(0, 6, decimals=3, bins=24),
    "nr.employed": number(4900, 5300, decimals=1, bins=16),
    "y": words("no", "yes"),
}
GERMAN: Columns = {
    "status": codes("A", 11, 12, 13, 14),
    "month": number(4, 72, 7, 10, 13, 16, 19, 25, 31, 37, 49),
    "credit_history": codes("A", 30, 31, 32, 33, 34),
    "purpose": codes("A", 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 410),
    "credit_amount": number(0, 20_000, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10_000),
    "savings": codes("A", 61, 62, 63, 64, 65),
    "employment": codes("A", 71, 72, 73, 74, 75),
    "investment_as_income_percentage": codes("", 1, 2, 3, 4),
    "personal_status": codes("A", 91, 92, 93, 94, 95),
    "other_debtors": codes("A", 101, 102, 103),
    "residence_since": codes("", 1, 2, 3, 4),
    "property": codes("A", 121, 122, 123, 124),
    "age": number(18, 75, 25, 30, 35, 40, 45, 50, 60),
    "installment_plans": codes("A", 141, 142, 143),
    "housing": codes("A", 151, 152, 153),
    "number_of_credits": codes("", 1, 2, 3, 4),
    "skill_level": codes("A", 171, 172, 173, 174),
    "people_liable_for": codes("", 1, 2),
    "telephone": codes("A", 191, 192),
    "foreign_worker": codes("A", 201, 202),
    "credit": codes("", 1, 2),
}
TELCO: Columns = {
    "customerID": {"kind": "identifier"},
    "gender": words("Female", "Male"),
    "SeniorCitizen": words("0", "1"),
    "Partner": words("No", "Yes"),
    "Dependents": words("No", "Yes"),
    "tenure": number(0, 72, 1, 2, 3, 5, 7, 10, 13, 19, 25, 31, 37, 43, 49, 55, 61, 67, 72),
    "PhoneService": words("No", "Yes"),
    "MultipleLines": words("No", "Yes", "No phone service"),
    "InternetService": words("DSL", "Fiber optic", "No"),
    **{
        name: words(*SERVICE)
        for name in ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV")
    },
    "StreamingMovies": words(*SERVICE),
    "Contract": words("Month-to-month", "One year", "Two year"),
    "PaperlessBilling": words("No", "Yes"),
    "PaymentMethod": words("Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)"),
    "MonthlyCharges": number(15, 120, decimals=2, bins=21),
    "TotalCharges": number(
        0, 9000, 50, 100, 200, 400, 600, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 7000, decimals=2, missing=""
    ),
    "Churn": words("No", "Yes"),
}
CALIFORNIA: Columns = {
    "longitude": number(-125, -114, decimals=2, bins=22),
    "latitude": number(32, 42, decimals=2, bins=20),
    "housing_median_age": number(1, 52, *range(5, 55, 5), 52, decimals=1),
    "total_rooms": number(0, 40_000, 500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10_000, decimals=1),
    "total_bedrooms": number(0, 6500, 100, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000, decimals=1, missing=""),
    "population": number(0, 36_000, 250, 500, 750, 1000, 1250, 1500, 2000, 2500, 4000, 6000, decimals=1),
    "households": number(0, 6100, 100, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000, decimals=1),
    "median_income": number(0, 15.0001, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, decimals=4),
    "ocean_proximity": words("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"),
    "median_house_value": number(14_999, 500_001, *range(50_000, 500_001, 25_000), decimals=1),
}


def public(columns: Columns) -> Schema:
    """Return the schema; cells beyond what is public are taken for the nearest."""
    return parse_schema(json.dumps({"outside": "clip", "columns": columns}))


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("the public description of the table beside it", error, file=path) from error


def adult_codes(folder: pathlib.Path) -> Schema:
    """Return the schema of Adult in whole numbers, by the domain beside it."""
    ordered = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
    return public(
        {
            name: number(0, levels - 1, bins=levels) if name in ordered else codes("", *range(levels))
            for name, levels in _read(folder / "adult_pgm-domain.json").items()
        }
    )


CENSUS_TOLD = "OWN_RENT"
"""Which column of the census is told from the others."""
PERSONS = (25, 50, 75, 100, 150, 200, 300, 500)
CENSUS_EDGES: dict[str, Sequence[Number]] = {
    "DENSITY": (50, 100, 250, 500, 1000, 2000, 3000, 4000, 6000, 10_000, 20_000),
    "PINCP": (-1, 1, 5000, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000, 75_000, 100_000, 150_000, 250_000),
    "PWGTP": PERSONS,
    "WGTP": (1, *PERSONS),
}
"""Where bins meet in columns that have far more small numbers than large ones."""


def census(folder: pathlib.Path) -> Schema:
    """Return the schema of the census excerpt of 2019, by the one that NIST gives with it."""
    columns = {
        name: _census_column(name, said)
        for name, said in _read(folder / "nist_national2019-schema.json")["schema"].items()
    }
    told = columns.pop(CENSUS_TOLD)
    return public({**columns, CENSUS_TOLD: told})


def _census_column(name: str, said: dict[str, Any]) -> dict[str, Any]:
    if "values" in said:
        return words(*map(str, said["values"]))
    missing = {"missing": str(said["null_value"])} if said.get("has_null") else {}
    decimals = 0 if said["dtype"].startswith("int") or name == "POVPIP" else 1
    return number(said["min"], said["max"], *CENSUS_EDGES.get(name, ()), decimals=decimals, **missing)


TABLES: dict[str, tuple[str, Callable[[pathlib.Path], Schema]]] = {
    "Bank marketing": ("bank_additional_full.csv.gz", lambda folder: public(BANK)),
    "Telco churn": ("telco_churn.csv.gz", lambda folder: public(TELCO)),
    "California housing": ("california_housing.csv.gz", lambda folder: public(CALIFORNIA)),
    "German credit": ("german_credit.csv.gz", lambda folder: public(GERMAN)),
    "Adult in codes": ("adult_pgm.csv.gz", adult_codes),
    "Census excerpt": ("nist_national2019.csv.gz", census),
}
"""By name: file, and what is public about it."""

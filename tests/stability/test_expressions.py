"""At least 40 expressions at extreme inputs, naive and by function, against their true values."""

from __future__ import annotations

import pytest

from tests.stability import cases_exponentials, cases_functions, cases_sums
from tests.stability.suite import Case, outcomes

CASES = [*cases_exponentials.CASES, *cases_functions.CASES, *cases_sums.CASES]
RUNS = [pytest.param(c, d, id=f"{c.name}-{d}") for c in CASES for d in c.dtypes]


@pytest.mark.parametrize(("case", "dtype"), RUNS)
def test_value_and_gradient_are_close_to_the_truth(case: Case, dtype: str) -> None:
    failures = [line for o in outcomes(case, dtype) for line in o.failures()]
    assert not failures, "\n".join([f"{case.name} in {dtype}:", *failures])


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({c.name for c in CASES}) == len(CASES)


def test_every_other_scale_has_a_reason() -> None:
    unexplained = [
        c.name
        for c in CASES
        if (c.scale or c.gradient_scale or not c.gradient or c.ulps > 4) and not c.why
    ]
    assert unexplained == []

from tests.stability.suite import Case
CASES: list[Case] = []

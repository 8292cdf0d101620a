"""Reference values of the wing, and how closely they have to be met."""

import json
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "reference" / "diagnostics.json"
VALUES = json.loads(REFERENCE.read_text(encoding="utf-8"))

SLOPE = "Reaction ~ Days + (Days | Subject)"
# Our search stops within 1e-7 of the minimum of the deviance, lme4's at tight tolerance within
# 1e-9: θ may be off by 3e-4 of its standard error, which is below 1e-4 of θ itself here, and
# with it everything that depends on θ directly. (Seen: 4e-5, in pastes.)
THETA = 1e-4
# A share of variance s moves by 2 s (1 - s) ≤ 1/2 of the relative change of θ.
SHARE = 5e-5


def by_formula(case):
    return f"{case['data']}-{case['formula']}-{case['reml']}"

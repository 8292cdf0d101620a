"""The models that the benchmarks fit, and their data in a form all engines can read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from course_lib import load
from course_lib.mixed.design import model_frame

REFERENCE = Path(__file__).parent.parent / "reference"


@dataclass(frozen=True)
class Problem:
    """A model and its data; `reference` and `shift` lead to the best criterion known."""

    name: str
    formula: str
    frame: pd.DataFrame
    reference: str = ""
    shift: float = 0.0  # what changed units add to the reference REML criterion


def classic_problems():
    """Eleven data sets; by ML and REML they make the 22 fits."""
    minutes = load("sleepstudy").assign(Days=lambda d: d["Days"] * 24 * 60)
    logs = ["gsp", "pcap", "pc", "emp"]  # taken beforehand: mixedlm's formula knows no log()
    produc = pd.read_csv(REFERENCE / "data" / "produc.csv")
    produc = produc.assign(**{f"log_{name}": np.log(produc[name]) for name in logs})
    chicks, wages = (
        pd.read_csv(REFERENCE / "data" / f"{x}.csv") for x in ("chickweight", "wages")
    )
    sleep, nested = "Reaction ~ Days + (Days | Subject)", "strength ~ 1 + (1 | batch/cask)"
    crossed = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    macro = "log_gsp ~ log_pcap + log_pc + log_emp + unemp + (unemp | state)"
    yields = "Yield ~ 1 + (1 | Batch)"
    return [
        Problem("sleepstudy", sleep, load("sleepstudy"), "sleepstudy_correlated"),
        Problem(
            "sleepstudy, Days in minutes",
            sleep,
            minutes,
            "sleepstudy_correlated",
            2 * np.log(1440),
        ),
        Problem(
            "orthodont", "distance ~ age + (age | Subject)", load("orthodont"), "orthodont"
        ),
        Problem("oxboys", "height ~ age + (age | Subject)", load("oxboys"), "oxboys"),
        Problem("pastes", nested, load("pastes"), "pastes"),
        Problem("penicillin", crossed, load("penicillin"), "penicillin"),
        Problem("dyestuff", yields, load("dyestuff"), "dyestuff"),
        Problem("dyestuff2", yields, load("dyestuff2"), "dyestuff2"),
        Problem("ChickWeight", "weight ~ Time + (Time | Chick)", chicks, "chickweight"),
        Problem("Wages", "lwage ~ exp + (exp | id)", wages, "wages"),
        Problem("Produc", macro, produc, "produc"),
    ]


def design_problems():
    """One problem a kind of design; all but sleepstudy and Machines are simulated."""
    machines = pd.read_csv(REFERENCE / "data" / "machines.csv")
    unstructured = "score ~ Machine + (Machine | Worker)"
    return [
        classic_problems()[0],
        Problem("Machines", unstructured, machines, "machines_unstructured"),
        partly_nested_problem(),
        nested_problem(2000),
        nested_problem(8000),
        nested_problem(2000, slopes=True),
        nested_problem(200, "abc"),
        school_problem(),
        crossed_problem(),
        large_problem(),
    ]


def nested_problem(n_outer, levels="ab", slopes=False):
    """Each unit holds 10 of the next level, the innermost ones 3 rows; no label comes twice."""
    sizes = [n_outer * 10**depth for depth in range(len(levels))]
    rows = np.arange(3 * sizes[-1])
    codes = {level: rows * size // len(rows) for level, size in zip(levels, sizes, strict=True)}
    formula = f"y ~ x + ({'x' if slopes else 1} | {'/'.join(levels)})"
    name = f"{n_outer:,}{' × 10' * (len(levels) - 1)} × 3 rows{', slopes' * slopes}"
    return _simulated(name, formula, codes, np.random.default_rng(n_outer), slopes)


def partly_nested_problem():
    """10,000 rows: 500 units nested in 100, crossed with 500 others."""
    rng = np.random.default_rng(500)
    inner, crossed = rng.integers(0, 500, (2, 10_000))
    codes = {"a": inner // 5, "b": inner, "c": crossed}
    name, formula = "500 in 100, × 500; 10,000 rows", "y ~ x + (1 | a/b) + (1 | c)"
    return _simulated(name, formula, codes, rng)


def school_problem():
    """60,000 rows: 40 pupils and 20 teachers in each of 300 schools, 5 rows a pupil."""
    rng = np.random.default_rng(12_000)
    pupil = np.repeat(np.arange(12_000), 5)
    school = pupil // 40
    codes = {"s": school, "p": pupil, "t": 20 * school + rng.integers(0, 20, len(pupil))}
    name = "12,000 pupils × 20 teachers in each of 300 schools; 60,000 rows"
    return _simulated(name, "y ~ x + (1 | s) + (1 | p) + (1 | t)", codes, rng)


def _simulated(name, formula, codes, rng, slopes=False):
    """Response with an effect of x and one of every unit (and of x in every unit)."""
    x, y = rng.normal(size=(2, len(next(iter(codes.values())))))
    y += 1 + 0.5 * x
    for units in codes.values():
        y += rng.normal(0, 0.7, units.max() + 1)[units]
        if slopes:
            y += rng.normal(0, 0.4, units.max() + 1)[units] * x
    return Problem(name, formula, pd.DataFrame({"y": y, "x": x} | codes))


def large_problem():
    """10⁶ rows in 10⁴ groups, random intercept and slope."""
    rng = np.random.default_rng(2024)
    groups = np.sort(rng.integers(0, 10_000, 1_000_000))
    x = rng.normal(size=len(groups))
    effects = rng.multivariate_normal([0, 0], [[1, 0.3], [0.3, 0.5]], 10_000)[groups]
    y = 1 + 2 * x + effects[:, 0] + effects[:, 1] * x + rng.normal(size=len(x))
    frame = pd.DataFrame({"y": y, "x": x, "g": groups})
    return Problem("10⁶ rows × 10⁴ groups", "y ~ x + (x | g)", frame)


def crossed_problem():
    """As large as lme4's InstEval: 2,972 students rate 1,128 lecturers of 14 departments."""
    rng = np.random.default_rng(73421)
    n, sizes = 73_421, {"s": 2972, "d": 1128, "dept": 14}
    sd = {"s": 0.325, "d": 0.516, "dept": 0.08}  # about what lme4 finds in InstEval
    home = rng.integers(0, sizes["dept"], sizes["d"])
    frame = pd.DataFrame({name: rng.integers(0, sizes[name], n) for name in ("s", "d")})
    guest = rng.random(n) < 0.3  # a lecturer sometimes teaches for another department
    frame["dept"] = np.where(guest, rng.integers(0, sizes["dept"], n), home[frame["d"]])
    frame["service"] = guest.astype(float)
    effects = sum(rng.normal(0, sd[g], size)[frame[g]] for g, size in sizes.items())
    frame["y"] = 3.3 - 0.07 * frame["service"] + effects + rng.normal(0, 1.177, n)
    formula = "y ~ service + (1 | s) + (1 | d) + (1 | dept)"
    return Problem("73,421 rows, 2,972 × 1,128 × 14 crossed", formula, frame)


def store(problem, folder):
    """Write the data where every engine can read them quickly; return the path."""
    if problem.reference:
        path = folder / f"{problem.name}.csv"
        problem.frame.to_csv(path, index=False)
        return path
    path = folder / "rows.bin"
    grouping = {name for factor in problem_frame(problem).factors for name in factor.group}
    header = [f"*{name}" if name in grouping else name for name in problem.frame]
    path.with_suffix(".txt").write_text(" ".join(header), encoding="utf-8")
    problem.frame.to_numpy("<f8").T.tofile(path)
    return path


def problem_frame(problem):
    return model_frame(problem.formula, problem.frame)

"""One engine in a process of its own: read a request a line, fit, answer with a line of JSON.

``fits.py`` starts this as ``python engines.py NAME`` and talks to it over pipes; lme4_fits.R
speaks the same protocol. A request is ``data path <tab> formula <tab> TRUE|FALSE`` (REML).
The answer holds the seconds of the whole call, formula and data frame to fitted result; the
covariance matrices of the random effects divided by σ², by group; the engine's own criterion;
whether it says that it converged; and the peak memory of the process so far.
"""

import json
import resource
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

MEMORY_LIMIT = 12 * 2**30  # bytes of address space: better one failed fit than a dead machine


def fit_course_lib(formula, data, reml):
    from course_lib import lmer

    start = time.perf_counter()
    fit = lmer(formula, data, reml)
    seconds = time.perf_counter() - start
    covs = {group: cov.to_numpy() / fit.scale for group, cov in fit.cov_re.items()}
    return seconds, covs, fit.deviance, fit.converged


def fit_mixedlm(formula, data, reml):
    import mixedlm

    start = time.perf_counter()
    fit = mixedlm.lmer(formula, data, REML=reml)
    seconds = time.perf_counter() - start
    covs = {group: part.cov / fit.sigma**2 for group, part in fit.VarCorr().groups.items()}
    return seconds, covs, fit.deviance, fit.converged


def fit_statsmodels(formula, data, reml):
    import statsmodels.formula.api as smf

    arguments = statsmodels_arguments(formula, data)
    start = time.perf_counter()
    model = smf.mixedlm(**arguments)
    fit = model.fit(reml=reml)
    seconds = time.perf_counter() - start
    covs = {}
    if model.k_re:
        covs[arguments["groups"]] = np.asarray(fit.cov_re) / fit.scale
    if model.k_vc:
        pairs = zip(model.exog_vc.names, fit.vcomp, strict=True)
        covs |= {name: [[variance / fit.scale]] for name, variance in pairs}
    return seconds, covs, -2 * fit.llf, fit.converged


def statsmodels_arguments(formula, data):
    """Say the same model in the arguments of ``smf.mixedlm``.

    One factor is `groups` with `re_formula`. Of nested ones the inner are variance
    components. Crossed ones are all variance components within one group that holds all rows.
    """
    from course_lib.mixed.formula import parse_formula

    parsed = parse_formula(formula)
    fixed = {"formula": f"{parsed.response} ~ {parsed.fixed}", "data": data}
    if len(parsed.bars) == 1:
        (bar,) = parsed.bars
        return fixed | {"groups": bar.group[0], "re_formula": f"~ {bar.left}"}
    if any(bar.left != "1" for bar in parsed.bars):
        raise NotImplementedError("slopes with several factors")
    components = {bar.name: f"0 + C({bar.group[0]})" for bar in parsed.bars}
    outer = set.intersection(*(set(bar.group) for bar in parsed.bars))
    if outer:
        (group,) = outer
        components.pop(group)
        return fixed | {"groups": group, "re_formula": "1", "vc_formula": components}
    everything = np.zeros(len(data), dtype=int)
    return fixed | {"groups": everything, "vc_formula": components}


FITTERS = {
    "course_lib": fit_course_lib,
    "statsmodels": fit_statsmodels,
    "mixedlm": fit_mixedlm,
}


def read_data(path):
    """CSV, or float64 columns one after the other, named in the file beside it."""
    if path.endswith(".csv"):
        return pd.read_csv(path)
    header = Path(path).with_suffix(".txt").read_text(encoding="utf-8").split()
    columns = np.fromfile(path, dtype="<f8").reshape(len(header), -1)
    named = zip(header, columns, strict=True)
    return pd.DataFrame(
        {
            name.removeprefix("*"): column.astype(int) if name.startswith("*") else column
            for name, column in named
        }
    )


def peak_megabytes():
    """High-water mark of resident memory: VmHWM, which R reads too; else getrusage."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def answer(fitter, frames, request):
    """Fit what one line asks for."""
    path, formula, reml = request.rstrip("\n").split("\t")
    if path not in frames:
        frames[path] = read_data(path)
    try:
        seconds, covs, criterion, converged = fitter(formula, frames[path], reml == "TRUE")
    except Exception as error:  # whatever a peer raises is its result
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    return {
        "seconds": seconds,
        "covs": {group: np.asarray(cov).tolist() for group, cov in covs.items()},
        "criterion": float(criterion),
        "converged": bool(converged),
        "peak_mb": peak_megabytes(),
    }


def main():
    import_module(sys.argv[1] + (".api" if sys.argv[1] == "statsmodels" else ""))
    warnings.simplefilter("ignore")  # after the import, which sets filters of its own
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    fitter, frames = FITTERS[sys.argv[1]], {}
    for request in sys.stdin:
        print(json.dumps(answer(fitter, frames, request)), flush=True)


if __name__ == "__main__":
    main()

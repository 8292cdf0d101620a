"""1,000 refits, and a bootstrap test: course_lib beside lme4 and pbkrtest (R), one run.

    apt-get install r-cran-lme4 r-cran-pbkrtest              # optional
    OMP_NUM_THREADS=1 python tests/benchmarks/bootstrap.py

The refits simulate from the REML fit and fit the model to each draw (lme4: bootMer). The test
of the sleepstudy slope refits two models by ML (pbkrtest: PBmodcomp). Times are of the call
alone, data read and models fitted beforehand; the median of the rounds for course_lib, the only
one for R, with fewer draws and set against ours by the draw. Not a test: nothing is asserted.
"""

import argparse
import json
import shutil
import subprocess
import time

import numpy as np
from problems import classic_problems
from tqdm import tqdm

from course_lib import lmer, load
from course_lib.mixed.compare import lr_test

NAMES = ("pastes", "penicillin", "sleepstudy")
REFITS = """
suppressMessages(library(lme4))
args <- commandArgs(TRUE)
data <- read.csv(file("stdin"), stringsAsFactors = TRUE)
fit <- lmer(as.formula(args[2]), data)
draw <- function() suppressMessages(suppressWarnings(
  bootMer(fit, function(m) fixef(m)[1], as.integer(args[1]), seed = 1)))
time <- system.time(draws <- draw())
cat(sprintf('{"seconds": %.6f, "found": "sd %.3g"}', time[["elapsed"]], sd(draws$t)))
"""
TEST = """
suppressMessages(library(pbkrtest))
reduced <- lmer(Reaction ~ Days + (1 | Subject), sleepstudy, REML = FALSE)
full <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
draw <- function() suppressMessages(suppressWarnings(
  PBmodcomp(full, reduced, nsim = as.integer(commandArgs(TRUE)[1]), seed = 1)))
time <- system.time(test <- draw())
q95 <- quantile(as.numeric(test$ref), .95)
cat(sprintf('{"seconds": %.6f, "found": "95 %% quantile %.3g"}', time[["elapsed"]], q95))
"""


def timed(call, rounds):
    """Median seconds of `call`, after one to warm up, and what it returned."""
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return np.median(seconds), answer


def refits(problem, options):
    """Seconds, and the spread of the first fixed effect among the draws."""
    fit = lmer(problem.formula, problem.frame)

    def call():
        draws = fit.simulate(options.draws, np.random.default_rng(1))
        return fit.refit_many(draws, progress=False)

    seconds, table = timed(call, options.rounds)
    return seconds, f"sd {table.iloc[:, 1].std():.3g}, {table['converged'].sum():,} converged"


def slope_test(options):
    """Seconds, and the 95 % quantile of the simulated statistics."""
    data = load("sleepstudy")
    reduced = lmer("Reaction ~ Days + (1 | Subject)", data, reml=False)
    full = lmer("Reaction ~ Days + (Days | Subject)", data, reml=False)

    def call():
        rng = np.random.default_rng(1)
        return lr_test(reduced, full, "bootstrap", options.draws, rng, progress=False)

    seconds, test = timed(call, options.rounds)
    return seconds, f"95 % quantile {np.quantile(test.simulated, 0.95):.3g}"


def in_r(script, *arguments, data=None):
    """R's answer, or None."""
    if shutil.which("Rscript") is None:
        return None
    command = ["Rscript", "-e", script, *map(str, arguments)]
    run = subprocess.run(command, input=data, capture_output=True, text=True, check=False)
    return None if run.returncode else json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--peer-draws", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = []
    for problem in tqdm([p for p in classic_problems() if p.name in NAMES]):
        data = problem.frame.to_csv(index=False)
        peer = in_r(REFITS, options.peer_draws, problem.formula, data=data)
        title = f"{problem.name}, `{problem.formula}`".replace("|", "\\|")
        results.append((title, *refits(problem, options), "bootMer", peer))
    peer = in_r(TEST, options.peer_draws)
    results.append(("sleepstudy, slope test", *slope_test(options), "PBmodcomp", peer))
    ours, theirs = f"{options.draws:,} draws", f"{options.peer_draws:,} draws"
    print(f"| data | course_lib, {ours} | R, {theirs} | by the draw |\n|---|---|---|---|")
    for title, seconds, found, name, peer in results:
        cells, times = f"{name}: not installed", ""
        if peer:
            cells = f"{name}: {peer['seconds']:.3g} s ({peer['found']})"
            ratio = peer["seconds"] / options.peer_draws / (seconds / options.draws)
            times = f"× {ratio:.3g}"
        print(f"| {title} | {seconds:.3g} s ({found}) | {cells} | {times} |")


if __name__ == "__main__":
    main()

"""1,000 bootstrap draws of the sleepstudy slope test: course_lib beside pbkrtest (R), one run.

    apt-get install r-cran-lme4 r-cran-pbkrtest              # optional
    OMP_NUM_THREADS=1 python tests/benchmarks/bootstrap.py

Both draw from the random-intercept model, refit both models by ML, and return a p-value. Times
are of the call alone, data read and both models fitted beforehand; the best of the rounds for
course_lib, the only one for pbkrtest. Not a test: nothing is asserted.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time

import numpy as np

from course_lib import lmer, load
from course_lib.mixed.compare import lr_test

PEER = """
suppressMessages({library(lme4); library(pbkrtest)})
reduced <- lmer(Reaction ~ Days + (1 | Subject), sleepstudy, REML = FALSE)
full <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
n <- as.integer(commandArgs(TRUE)[1])
time <- system.time(test <- suppressMessages(suppressWarnings(
  PBmodcomp(full, reduced, nsim = n, seed = 1))))
draws <- as.numeric(test$ref)
cat(sprintf('{"seconds": %.6f, "p": %.8f, "q95": %.6f, "version": "%s"}',
            time[["elapsed"]], test$test$p.value[2], quantile(draws, .95),
            packageVersion("pbkrtest")))
"""


def course_lib(n_sim, rounds):
    """Seconds of each round, and the test."""
    data = load("sleepstudy")
    reduced = lmer("Reaction ~ Days + (1|Subject)", data, reml=False)
    full = lmer("Reaction ~ Days + (Days|Subject)", data, reml=False)
    lr_test(reduced, full, "bootstrap", 10, np.random.default_rng(0), progress=False)  # warm
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        rng = np.random.default_rng(1)
        test = lr_test(reduced, full, "bootstrap", n_sim, rng, progress=False)
        seconds.append(time.perf_counter() - start)
    return seconds, test


def pbkrtest(n_sim):
    """pbkrtest's answer, or why there is none."""
    if shutil.which("Rscript") is None:
        return "R is not installed"
    run = subprocess.run(
        ["Rscript", "-e", PEER, str(n_sim)], capture_output=True, text=True, check=False
    )
    if run.returncode:
        return f"lme4 or pbkrtest is not installed ({run.stderr.strip().splitlines()[-1]})"
    return json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-sim", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seconds, test = course_lib(options.n_sim, options.rounds)
    print(f"{options.n_sim} draws, statistic {test.statistic:.4f}\n")
    print("| engine | seconds | p | 95 % quantile of the null |\n|---|---|---|---|")
    q95 = np.quantile(test.simulated, 0.95)
    print(f"| course_lib | {min(seconds):.3f} | {test.pvalue:.6f} | {q95:.3f} |")
    peer = pbkrtest(options.n_sim)
    if isinstance(peer, str):
        print(f"\npbkrtest skipped: {peer}.")
        return
    name = f"pbkrtest {peer['version']}"
    print(f"| {name} | {peer['seconds']:.3f} | {peer['p']:.6f} | {peer['q95']:.3f} |")
    ratio = min(seconds) / peer["seconds"]
    print(f"\ncourse_lib takes {ratio:.4f} of pbkrtest's time (1 : {1 / ratio:.0f}).")


if __name__ == "__main__":
    sys.exit(main())

"""Whole `lmer()` calls beside statsmodels, mixedlm (Rust) and lme4 (R): accuracy, time, memory.

    pip install -e .[benchmark]                              # brings mixedlm
    apt-get install r-cran-lme4                              # optional
    python tests/benchmarks/fits.py                          # everything, markdown to stdout
    python tests/benchmarks/fits.py --only small --write table.md

Every engine lives in a process of its own with its default settings (engines.py, lme4_fits.R),
so that peers cannot disturb one another, a fit that takes too long can be ended, and peak
memory has one owner. In each round the engines take turns: noise of the machine hits them all.
Times are of the call alone, taken inside the engine's process. Not a test: nothing is asserted.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import judge
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from problems import (
    REFERENCE,
    Problem,
    classic_problems,
    design_problems,
    nested_problem,
    problem_frame,
    store,
)
from tqdm import tqdm

HERE = Path(__file__).parent
ENGINES = ("course_lib", "mixedlm", "lme4", "statsmodels")
NOT_RUN = "not run"
NEAR, WRONG = 1e-6, 0.01  # distances in criterion, twice those in log-likelihood
PATIENCE = 10.0  # seconds that one engine may spend on the rounds of one small problem
SLOW = 30.0  # seconds: fitted only once; in the growth table, not with more rows
WARM = ("sleepstudy", "pastes")
OUTER = (2000, 4000, 8000, 16_000, 32_000)  # groups of the growth table
PICTURE = HERE.parent.parent / "chapters" / "images" / "growth.png"


@dataclass(frozen=True)
class Fit:
    """What an engine answered: the keys of engines.py's answer, or a single ``error``."""

    problem: Problem
    reml: bool
    engine: str
    answer: dict

    @property
    def seconds(self):
        return self.answer.get("seconds", np.nan)

    @property
    def error(self):
        """Why there is no fit, in a few words."""
        kind = self.answer.get("error", "").split(":")[0]
        words = {"NotImplementedError": "cannot say it", "MemoryError": "out of memory"}
        return words.get(kind, kind)


# ---- engines ------------------------------------------------------------------------------


class Worker:
    """An engine in its own process, asked over pipes."""

    def __init__(self, engine, threads):
        command = [sys.executable, str(HERE / "engines.py"), engine]
        if engine == "lme4":
            command = ["Rscript", "--vanilla", str(HERE / "lme4_fits.R")]
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | {name: str(threads) for name in names if threads}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
        self.engine = engine
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def ask(self, problem, path, reml, timeout):
        """Fit once; a worker that runs out of time is gone afterwards."""
        if self.process.poll() is not None:
            return Fit(problem, reml, self.engine, {"error": "stopped before"})
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        self.process.stdin.write(f"{path}\t{problem.formula}\t{str(reml).upper()}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        late = not timer.is_alive()
        timer.cancel()
        lost = {"error": f"more than {timeout:.0f} s" if late else "process died"}
        return Fit(problem, reml, self.engine, json.loads(line) if line else lost)

    def close(self):
        self.process.kill()
        self.process.communicate()


def installed():
    """Version of each engine that is here."""
    versions = {"course_lib": version("course_lib")}
    for name in ("mixedlm", "statsmodels"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    ask = ["Rscript", "--vanilla", "-e", "cat(as.character(packageVersion('lme4')))"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=True)
        versions["lme4"] = answer.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return {name: versions[name] for name in ENGINES if name in versions}


# ---- running ------------------------------------------------------------------------------


def run_small(engines, options, folder):
    """Both criteria once for accuracy (and to warm up), then rounds of REML fits for time."""
    workers = [Worker(engine, options.threads) for engine in engines]
    accuracy, timed = [], []
    for problem in tqdm(classic_problems(), desc="small"):
        path = store(problem, folder)
        spent = dict.fromkeys(engines, 0.0)
        for reml in (True, False):
            accuracy += [w.ask(problem, path, reml, options.timeout) for w in workers]
        for _ in range(options.repeats):
            for worker in workers:
                if spent[worker.engine] < PATIENCE:
                    timed.append(worker.ask(problem, path, True, options.timeout))
                    spent[worker.engine] += np.nan_to_num(timed[-1].seconds)
    for worker in workers:
        worker.close()
    return accuracy, timed


def run_design(problem, engines, options, folder):
    """REML fits in fresh, warm processes: slow engines once, quick ones often in each."""
    path, fits, rest = store(problem, folder), [], list(engines)
    warm = [(small, store(small, folder)) for small in classic_problems() if small.name in WARM]
    for _ in tqdm(range(options.rounds), desc=problem.name):
        for engine in tuple(rest):
            worker = Worker(engine, options.threads)
            for small, small_path in warm:
                worker.ask(small, small_path, True, options.timeout)
            spent = 0.0
            for _ in range(options.repeats):
                fits.append(worker.ask(problem, path, True, options.timeout))
                spent += fits[-1].seconds
                if not spent < 1:  # also after an error, whose seconds are NaN
                    break
            worker.close()
            if not fits[-1].seconds < SLOW:
                rest.remove(engine)
    return fits


def run_growth(measured, engines, options, folder):
    """The same for more and more groups; what is slow or fails sees no more of them."""
    fits, rest = [], list(engines)
    for n_outer in OUTER:
        problem = nested_problem(n_outer)
        if problem.name not in measured:
            measured[problem.name] = run_design(problem, rest, options, folder)
        fits += [fit for fit in measured[problem.name] if fit.engine in rest]
        rest = [e for e in rest if all(f.seconds < SLOW for f in fits if f.engine == e)]
    return fits


# ---- tables -------------------------------------------------------------------------------


def table(frame):
    """Markdown of a DataFrame of text."""
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def by_engine(engines, cell):
    """One cell an engine, or why there is none."""
    return {name: cell(name) if name in engines else NOT_RUN for name in ENGINES}


def distances(fits):
    """One row per fit: distance to the best criterion known, all measured by judge.py."""
    text = (REFERENCE / "lmer_reference.json").read_text(encoding="utf-8")
    references = {r["name"]: r["criterion"] for r in json.loads(text)["fits"]}
    rows, frames = [], {}
    for fit in tqdm(fits, desc="judging"):
        problem, kind = fit.problem, "reml" if fit.reml else "ml"
        frame = frames.setdefault(problem.name, problem_frame(problem))
        known, value = np.inf, np.inf
        if problem.reference:
            known = references[f"{problem.reference}_{kind}"] + fit.reml * problem.shift
        if not fit.error:
            value = judge.criterion(frame, fit.answer["covs"], fit.reml)
        rows.append((problem.name, kind.upper(), fit.engine, known, value, fit))
    frame = pd.DataFrame(rows, columns=["data", "by", "engine", "known", "value", "fit"])
    best = frame.groupby(["data", "by"])[["known", "value"]].transform("min").min(axis=1)
    return frame.assign(best=best, distance=(frame["value"] - best).clip(lower=0))


def distance_text(row):
    if row.fit.error:
        return row.fit.error
    said = "" if row.fit.answer["converged"] else " (says so)"
    if row.distance < 1e-9:
        return f"0{said}"
    return f"{row.distance:.2g}{said if row.distance > WRONG else ''}"


def accuracy_tables(rows, engines):
    summary, detail = [], []
    for name in ENGINES:
        mine = rows[rows["engine"] == name]
        said = np.array([fit.answer.get("converged", False) for fit in mine["fit"]], dtype=bool)
        wrong = (mine["distance"] > WRONG).to_numpy()
        cells = {"engine": name, f"within {NEAR:g}": NOT_RUN}
        if len(mine):
            cells[f"within {NEAR:g}"] = f"{(mine['distance'] <= NEAR).sum()} of {len(mine)}"
            cells[f"within {WRONG:g}"] = f"{(~wrong).sum()} of {len(mine)}"
            cells["worst"] = f"{mine['distance'].max():.2g}"
            cells[f"off by more than {WRONG:g}, says converged"] = (wrong & said).sum()
        summary.append(cells)
    for (name, by), group in rows.groupby(["data", "by"], sort=False):
        texts = {row.engine: distance_text(row) for row in group.itertuples()}
        cells = {"data": name, "by": by, "best known": f"{group['best'].iloc[0]:.6f}"}
        detail.append(cells | by_engine(engines, texts.get))
    return table(pd.DataFrame(summary, dtype=object).fillna("")), table(pd.DataFrame(detail))


def medians(fits):
    """Median seconds by problem and engine."""
    frame = pd.DataFrame([(f.problem.name, f.engine, f.seconds) for f in fits])
    return frame.groupby([0, 1], sort=False)[2].median().unstack()


def time_table(fits, engines):
    """Median of course_lib in ms, the others as multiples of it."""
    seconds = medians(fits)
    ratios = seconds.div(seconds["course_lib"], axis=0)
    rows = []
    for name, ratio in ratios.iterrows():
        milliseconds = f"{1e3 * seconds.loc[name, 'course_lib']:.2f} ms"
        cells = by_engine(engines, lambda engine, r=ratio: f"{r[engine]:.1f} ×")
        rows.append({"data": name} | cells | {"course_lib": milliseconds})
    means = np.exp(np.log(ratios).mean())
    cells = by_engine(engines, lambda engine: f"{means[engine]:.1f} ×")
    rows.append({"data": "geometric mean"} | cells)
    return table(pd.DataFrame(rows))


def design_table(measured, engines):
    """One row a design: seconds, multiple of course_lib's, peak memory, distance if any."""
    rows = []
    for fits in measured.values():
        first = {fit.engine: fit for fit in reversed(fits)}
        seconds = medians(fits).iloc[0]
        judged = distances(first.values()).set_index("engine")["distance"]

        def cell(name, first=first, seconds=seconds, judged=judged):
            if first[name].error:
                return first[name].error
            times = f"× {seconds[name] / seconds['course_lib']:.3g}, "
            off = f", {judged[name]:.2g} off" if judged[name] > NEAR else ""
            size = f"{first[name].answer['peak_mb']:.0f} MB"
            return f"{times * (name != 'course_lib')}{seconds[name]:.3g} s, {size}{off}"

        problem = fits[0].problem
        model = problem.formula.split(" ~ ")[1].replace("|", "\\|")
        cells = {"data": problem.name, "model": f"`{model}`"}
        rows.append(cells | by_engine(engines, cell))
    return table(pd.DataFrame(rows))


def growth_table(fits, engines):
    """Median seconds, a row for each number of groups; a dash after the last that was run."""
    errors = {(fit.problem.name, fit.engine): fit.error for fit in fits}
    rows = []
    for name, seconds in medians(fits).iterrows():

        def cell(engine, name=name, seconds=seconds):
            return errors.get((name, engine), "–") or f"{seconds[engine]:.3g}"

        rows.append({"data": name} | by_engine(engines, cell))
    return table(pd.DataFrame(rows))


def draw_growth(fits, path):
    """Seconds by rows on logarithmic axes, a line for each engine."""
    size = {fit.problem.name: len(fit.problem.frame) for fit in fits}
    seconds = medians(fits).rename(size)
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    ax = figure.subplots()
    for engine, line in seconds.dropna(axis=1, how="all").items():
        ax.plot(line.index, line, "o-", label=engine)
    ax.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds for one fit")
    ax.set_xticks(seconds.index, [f"{rows:,}" for rows in seconds.index], minor=False)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    figure.savefig(path, dpi=140)


def machine(versions, missing, options):
    """What the figures were measured on, and which peers were not there."""
    parts = [f"{name} {number}" for name, number in versions.items()]
    parts += [f"Python {platform.python_version()}", f"{os.cpu_count()} cores"]
    parts += [f"BLAS threads {options.threads or 'as set'}"]
    parts += [f"load average {os.getloadavg()[0]:.1f} at the end"]
    absent = f" Not installed: {', '.join(missing)}." if missing else ""
    return f"{pd.Timestamp.now():%Y-%m-%d}: {', '.join(parts)}.{absent}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["small", "designs", "growth"])
    parser.add_argument("--engines", nargs="+", choices=ENGINES[1:], default=ENGINES[1:])
    parser.add_argument("--write", type=Path, help="also write the tables to this file")
    parser.add_argument("--repeats", type=int, default=21, help="fits of a small set")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a design")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="drawing of the growth")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per fit may take")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads; 0 = leave alone")
    options = parser.parse_args()
    here, text, measured = installed(), [], {}
    versions = {name: here[name] for name in here if name in ("course_lib", *options.engines)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "small"):
            accuracy, timed = run_small(versions, options, folder)
            text += ["### Accuracy", *accuracy_tables(distances(accuracy), versions)]
            text += ["### Time, small sets (REML)", time_table(timed, versions)]
        if options.only in (None, "designs"):
            for problem in design_problems():
                measured[problem.name] = run_design(problem, versions, options, folder)
            text += ["### Designs (REML)", design_table(measured, versions)]
        if options.only in (None, "growth"):
            fits = run_growth(measured, versions, options, folder)
            draw_growth(fits, options.picture)
            text += ["### Growth: seconds of `(1 | a/b)`", growth_table(fits, versions)]
    text.append(machine(versions, [e for e in ENGINES if e not in here], options))
    output = "\n\n".join(text) + "\n"
    if options.write:
        options.write.write_text(output, encoding="utf-8")
    print(output)


if __name__ == "__main__":
    main()

"""A fit from a database beside the database's own bare aggregation, and beside fits in memory.

``python tests/benchmarks/database.py`` makes Parquet files of 10⁶, 10⁷ and 10⁸ rows in 10⁵
groups (2.2 GB in all), fits ``y ~ x + (x | g)`` from them with DuckDB, and prints a table in
markdown: whole calls of `lmer`, file name to fitted result, as a multiple of the one query
that sums x, y, xx, xy, yy and rows per group. Each measurement is a process of its own, warmed
up on a small table; the two take turns. Peers read the file into pandas, outside of the time,
as far as memory lets them go. Nothing here is a test.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent.parent / "chapters" / "images" / "database.png"
FORMULA = "y ~ x + (x | g)"
GROUPS = 100_000
BARE = """select g, count(*), sum(x), sum(y), sum(x * x), sum(x * y), sum(y * y)
from read_parquet('{path}') group by g"""
MAKE = """copy (
    select g, x, 1 + 0.5 * x + b0 + b1 * x + e as y
    from (
        select
            hash(i)::ubigint % {groups} as g,
            50 + 10 * random() as x,
            sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as e
        from range({rows}) t(i)
    )
    join (
        select
            j as h,
            0.7 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as b0,
            0.2 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as b1
        from range({groups}) t(j)
    ) on g = h
) to '{path}'"""


def peak():
    """Peak resident size of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def timed(call):
    start, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - processor


def bare(path):
    import duckdb

    with duckdb.connect() as con:
        con.sql("select 1").fetchall()
        _, seconds, processor = timed(lambda: con.sql(BARE.format(path=path)).fetchnumpy())
    return seconds, processor, {}


def from_database(path):
    import duckdb

    from course_lib import lmer

    with duckdb.connect() as con:
        lmer(
            "y ~ x + (x | g)",
            con.sql("select i % 9 g, i % 7 x, (i * i) % 11 y from range(99) t(i)"),
        )
        fit, seconds, processor = timed(
            lambda: lmer(FORMULA, con.sql(f"from read_parquet('{path}')"))
        )
    return seconds, processor, {"criterion": fit.deviance, "evaluations": fit.n_evaluations}


def in_pandas(path):
    import duckdb

    with duckdb.connect() as con:
        return con.sql(f"from read_parquet('{path}')").df()


def in_memory(path):
    from course_lib import lmer

    rows = in_pandas(path)
    lmer(FORMULA, rows.iloc[: 3 * GROUPS])
    fit, seconds, processor = timed(lambda: lmer(FORMULA, rows))
    return seconds, processor, {"criterion": fit.deviance}


def mixedlm(path):
    import mixedlm

    rows = in_pandas(path).astype({"g": str})
    fit, seconds, processor = timed(lambda: mixedlm.lmer(FORMULA, rows, REML=True))
    return seconds, processor, {"criterion": fit.deviance}


ENGINES = {
    "DuckDB, bare": bare,
    "lmer from DuckDB": from_database,
    "lmer in memory": in_memory,
    "mixedlm in memory": mixedlm,
}


def measured(engine, path, timeout):
    """One measurement in a process of its own; what failed is said."""
    command = [sys.executable, __file__, "--engine", engine, "--path", str(path)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"more than {timeout} s"}
    if run.returncode:
        return {"error": (run.stderr.strip().splitlines() or ["killed"])[-1][:60]}
    return json.loads(run.stdout)


def make(rows, folder):
    """Make the file of so many rows, unless it is there."""
    import duckdb

    path = folder / f"rows_{rows}.parquet"
    if not path.exists():
        with duckdb.connect() as con:
            con.execute("select setseed(0.21)")
            con.execute(MAKE.format(rows=rows, groups=GROUPS, path=path))
    return path


def run(sizes, options, folder):
    found = []
    for rows in sizes:
        path = make(rows, folder)
        for round_ in range(options.rounds):
            for engine in ENGINES:
                peer = "memory" in engine
                if peer and (rows > options.most_in_memory or round_):
                    continue
                answer = measured(engine, path, options.timeout)
                found.append({"rows": rows, "engine": engine, **answer})
                print(found[-1], file=sys.stderr)
        if not options.keep:
            path.unlink()
    return pd.DataFrame(found)


def table(found):
    """Medians, a row for each number of rows."""
    lines = [
        "| rows | " + " | ".join(ENGINES) + " | fit / bare |",
        "|---" * (len(ENGINES) + 2) + "|",
    ]
    for rows, part in found.groupby("rows"):
        cells, medians = [], {}
        for engine in ENGINES:
            one = part[part["engine"] == engine]
            if one.empty:
                cells.append("–")
            elif one.get("error", pd.Series(dtype=object)).notna().any():
                cells.append(str(one["error"].dropna().iloc[0]))
            else:
                medians[engine] = one[["seconds", "processor"]].median()
                cells.append(f"{one['seconds'].median():.2f} s, {one['memory'].max():.0f} MB")
        ratio = medians["lmer from DuckDB"] / medians["DuckDB, bare"]
        cells.append(f"{ratio['seconds']:.2f} (processor time {ratio['processor']:.2f})")
        lines.append(f"| 10^{np.log10(rows):.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found, path):
    """Seconds by rows on logarithmic axes, a line for each engine."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    ax = figure.subplots()
    seconds = found.pivot_table("seconds", "rows", "engine", "median")
    for engine in seconds.columns.intersection([*ENGINES], sort=False):
        line = seconds[engine].dropna()
        ax.plot(line.index, line, "o-", label=engine)
    ax.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds for one fit")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    figure.savefig(path, dpi=140)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--most-in-memory", type=float, default=1e7, help="rows of the peers")
    parser.add_argument("--folder", type=Path, help="where the files are made, and kept")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--found", type=Path, help="JSON of earlier measurements to add")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        seconds, processor, more = ENGINES[options.engine](options.path)
        answer = {"seconds": seconds, "processor": processor, "memory": peak(), **more}
        print(json.dumps(answer))
        return
    options.keep = options.folder is not None
    with tempfile.TemporaryDirectory() as folder:
        sizes = [int(rows) for rows in options.rows]
        found = run(sizes, options, options.folder or Path(folder))
    if options.found:
        if options.found.exists():
            found = pd.concat([pd.read_json(options.found), found], ignore_index=True)
        found.to_json(options.found, orient="records")
    print(table(found))
    if options.picture.name:
        draw(found, options.picture)
    versions = {}
    for name in ("duckdb", "narwhals", "mixedlm"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    load = os.getloadavg()[0]
    print(
        f"\n{said}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}"
    )


if __name__ == "__main__":
    main()

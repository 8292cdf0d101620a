"""The authors' linter: ``python tests/lint`` prints lengths, then what breaks a rule.

It looks at the notebooks that git knows, as they are on disk; a learner's copy is none of its
business. CI and pre-commit run it; pytest does not.
"""

import json
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

from notebook_counts import Counts, count, excesses
from notebook_rules import (
    CHAPTER,
    COMMON,
    DEEPER,
    MOST_BYTES,
    SOLUTION,
    WRITTEN,
    complaints,
    exercises_differ,
)

ROOT = Path(__file__).resolve().parents[2]
# Chapters already rewritten: for these the lengths are limits, for the others a report. Deeper
# notebooks are all new, so they keep the rules.
REWRITTEN = (
    "01_random_slopes_in_five_steps",
    "02_fixed_vs_random_effects",
    "03_random_slope_model",
    "04_data_reshaping",
    "05_visualization",
    "06_building_the_model",
    "07_diagnostics",
    "08_interpretation",
    "09_explaining_predictions",
)


def notebooks(folder):
    """Return the notebooks of a folder that git knows, by name."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", f"{folder}/*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return {path.name: path for path in sorted(paths) if path.parent == ROOT / folder}


def main():
    """Print the report and the complaints; return the exit code."""
    chapters, solutions = notebooks("chapters"), notebooks("chapters/solutions")
    deeper = notebooks("chapters/deeper")
    found = []
    names = [field.name for field in fields(Counts)]
    print(f"{'notebook':40}" + "".join(f"{name:>17}" for name in names))
    for kind, group, rules in (
        ("chapter", chapters, COMMON + CHAPTER),
        ("deeper", deeper, COMMON + DEEPER),
        ("solutions", solutions, COMMON + SOLUTION),
    ):
        for path in group.values():
            notebook = json.loads(path.read_text(encoding="utf-8"))
            counts = count(notebook)
            if kind != "solutions":
                values = asdict(counts).values()
                print(f"{path.stem:40}" + "".join(f"{value:17}" for value in values))
            written = kind == "deeper" or (kind == "chapter" and path.stem in REWRITTEN)
            held = rules + (WRITTEN if written else ())
            told = [f"{rule}: {text}" for rule, text in complaints(notebook, path.stem, held)]
            told += excesses(counts, core=kind == "chapter") if written else []
            if path.stat().st_size >= MOST_BYTES:
                told.append(f"{path.stat().st_size} bytes, more than {MOST_BYTES}")
            found += [f"{kind} {path.stem}: {text}" for text in told]
    if set(chapters) != set(solutions):
        found.append(f"without a counterpart: {sorted(set(chapters) ^ set(solutions))}")
    for name in sorted(set(chapters) & set(solutions)):
        both = [json.loads(p[name].read_text(encoding="utf-8")) for p in (chapters, solutions)]
        found += [f"{name}: {text}" for text in exercises_differ(*both)]
    print("\n".join(found))
    print(f"{len(chapters) + len(deeper) + len(solutions)} notebooks, {len(found)} complaints")
    return 1 if found or not chapters else 0


if __name__ == "__main__":
    sys.exit(main())

"""Write the data sets that do not come from R, the checksums, and data/README.md.

Run in the repository root, after ``Rscript tests/reference/export_data.R``:
``python tests/reference/export_data.py``. The meanings and the truths of the simulations are
read from data/codebook.json; row counts and checksums are written to it.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from linearmodels.datasets import wage_panel

from course_lib.simulate import GrowthDesign, simulate_growth, simulate_orders

DATA = Path(__file__).resolve().parents[2] / "data"

HEAD = """\
# Data of the course

Generated from `codebook.json` by `tests/reference/export_data.py`: change those, not this file.
In Python, `course_lib.datasets.load("sleepstudy")` reads a set and checks it,
`describe("sleepstudy")` shows its columns and `codebook("sleepstudy")` its source.
Labels are read as text, also where they look like numbers. The sha256 is that of the file with
line ends LF; git may write CRLF on Windows, and `load` allows for that.

The code of the course is under the MIT licence. The data are not: each set has its own licence,
below. For sets from an R or Python package it is the licence of the package; the numbers
themselves are from the publication named as the source, which is the one to cite.
"""


def write_files(book: dict) -> None:
    """Write wage_panel.csv, school_growth.csv and orders.json."""
    growth = book["school_growth"]["simulation"]
    design = GrowthDesign(**growth["design"])
    scores = simulate_growth(design, np.random.default_rng(growth["seed"]))
    write(DATA / "wage_panel.csv", wage_panel.load().to_csv(index=False, lineterminator="\n"))
    write(
        DATA / "school_growth.csv",
        scores.to_csv(index=False, lineterminator="\n", float_format="%.2f"),
    )
    plan = book["orders"]["simulation"]
    users = simulate_orders(plan["n_users"], np.random.default_rng(plan["seed"]))
    write(DATA / "orders.json", json.dumps(users, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """Write text as UTF-8 with line ends LF on every system."""
    path.write_bytes(text.encode("utf-8"))


def update_codebook(book: dict) -> None:
    """Take row counts and checksums from the files."""
    for entry in book.values():
        content = (DATA / entry["file"]).read_bytes()
        if entry["file"].endswith(".json"):
            entry["n_rows"] = len(json.loads(content))
        else:
            entry["n_rows"] = content.count(b"\n") - 1
        entry["sha256"] = hashlib.sha256(content).hexdigest()
    write(DATA / "codebook.json", json.dumps(book, indent=2, ensure_ascii=False) + "\n")


def readme(book: dict) -> str:
    """Return the text of data/README.md."""
    lines = [HEAD, "| name | rows | one row is | sha256 |", "|---|---|---|---|"]
    for name, entry in book.items():
        rows = f"{entry['n_rows']:,}"
        lines.append(f"| {name} | {rows} | {entry['row']} | `{entry['sha256']}` |")
    for name, entry in book.items():
        lines += ["", f"## {name}", "", f"{entry['title']}.", ""]
        lines += [f"- File: `{entry['file']}`", f"- Source: {entry['source']}"]
        if entry["doi"]:
            # Angle brackets would be read as HTML outside of code.
            lines.append(f"- DOI: `{entry['doi']}`")
        lines.append(f"- Licence: {entry['licence']}")
        if "simulation" in entry:
            lines.append(f"- Truth: `{json.dumps(entry['simulation'])}`")
        lines += ["", "| column | meaning | unit | type |", "|---|---|---|---|"]
        for column in entry["columns"]:
            cells = (column["column"], column["meaning"], column["unit"], column["type"])
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Regenerate everything that does not need R."""
    book = json.loads((DATA / "codebook.json").read_text(encoding="utf-8"))
    write_files(book)
    update_codebook(book)
    write(DATA / "README.md", readme(book))


if __name__ == "__main__":
    main()

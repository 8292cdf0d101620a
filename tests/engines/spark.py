"""The same fits on PySpark in local mode and in memory, compared; by hand, not a test.

``pip install pyspark`` (4.3 was tried) and Java 17 (Debian: ``openjdk-17-jre-headless``), then
``python tests/engines/spark.py``. Exits with 1 if a fit differs by more than 1e-8.
"""

import sys
import warnings

import numpy as np
from pyspark.sql import SparkSession

from course_lib import CourseError, lmer, load

FITS = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("sleepstudy", "log(Reaction) ~ Days + I(Days**2) + (Days || Subject)"),
    ("orthodont", "distance ~ age * Sex + (age | Subject)"),
    ("pastes", "strength ~ 1 + (1 | batch/cask)"),
    ("hsb82", "mAch ~ cses * sector + cses * meanses + (cses | school)"),
]


def difference(here, there):
    """Largest relative difference of deviance, fixed effects and their errors, and σ²."""
    unit = np.abs(here.fe_params) + here.bse_fe
    return max(
        abs(there.deviance / here.deviance - 1),
        (np.abs(there.fe_params - here.fe_params) / unit).max(),
        np.abs(there.bse_fe / here.bse_fe - 1).max(),
        abs(there.scale / here.scale - 1),
    )


def main():
    # PySpark 4.3 says of pandas 3 that some of it may not work; what is used here does.
    warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.execution.arrow.pyspark.enabled", "false")  # pyarrow is not needed
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    worst = 0.0
    try:
        for name, formula in FITS:
            rows = load(name)
            records = rows.astype(object).to_dict("records")
            table = spark.createDataFrame(records)
            there = lmer(formula, table, progress=False)
            found = difference(lmer(formula, rows), there)
            worst = max(worst, found)
            print(f"{name:10} {formula:58} {found:.1e}")
        try:
            lmer("mAch ~ poly(cses, 2) + (1 | school)", table)
        except CourseError as error:
            print(f"refused as it should be: {str(error).splitlines()[0][:70]}")
    finally:
        spark.stop()
    return int(worst > 1e-8)


if __name__ == "__main__":
    sys.exit(main())

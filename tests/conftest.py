"""Settings of the unit tests (the notebooks' are in the conftest.py above)."""

import matplotlib as mpl

mpl.use("Agg")  # draws into memory; needs no display

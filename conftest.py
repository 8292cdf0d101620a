"""What must hold before any test or notebook kernel starts, wherever pytest is called from.

Workers of pytest-xdist and the kernels that nbval starts inherit this environment.
"""

import os
import tempfile
from pathlib import Path

# Two workers on two cores: more BLAS threads only fight each other, and sums that are split
# over threads can differ in the last digit from the outputs stored in the notebooks.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

# A backend from the caller's environment would override the kernels' inline backend, and
# every figure would be missing from the outputs.
os.environ.pop("MPLBACKEND", None)

# A checkout that cannot be written can be tested: hypothesis then keeps its examples elsewhere.
if not os.access(Path(__file__).parent, os.W_OK):
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.mkdtemp())


def pytest_configure(config):
    """Let nbval find its sanitise file from any working directory."""
    sanitize = config.option.nbval_sanitize_with
    if sanitize and not Path(sanitize).is_absolute():
        config.option.nbval_sanitize_with = str(config.rootpath / sanitize)


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked `thorough`, unless -m names that marker."""
    if "thorough" in config.option.markexpr:
        return
    thorough = [item for item in items if item.get_closest_marker("thorough")]
    if thorough:
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if item not in set(thorough)]

"""The house style: wide enough to project, and one meaning per colour."""

import matplotlib.pyplot as plt

from course_lib.plots import COLOUR


def test_the_style_is_found_by_name_and_makes_wide_pictures():
    with plt.style.context("course_lib.plots.course"):
        width, _ = plt.rcParams["figure.figsize"]
        assert width * plt.rcParams["figure.dpi"] >= 1000
        assert plt.rcParams["axes.labelsize"] >= 13
        assert plt.rcParams["xtick.labelsize"] >= 12


def test_colours_mean_one_thing_and_no_cycle_uses_the_fault_s():
    assert len(set(COLOUR.values())) == len(COLOUR)
    with plt.style.context("course_lib.plots.course"):
        cycle = [
            plt.matplotlib.colors.to_rgb(c)
            for c in plt.rcParams["axes.prop_cycle"].by_key()["color"]
        ]
    fault = plt.matplotlib.colors.to_rgb(COLOUR["fault"])
    assert min(sum(abs(a - b) for a, b in zip(c, fault, strict=True)) for c in cycle) > 0.1

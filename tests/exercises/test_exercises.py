"""The exercise checker on made-up exercises, then every exercise of the course on itself."""

import json
import re
import subprocess
import sys
import types
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from course_lib.datasets import load
from course_lib.errors import CourseError
from course_lib.exercises import (
    Exercise,
    Mistake,
    Verdict,
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_06,
    chapter_08,
    chapter_09,
    check,
    judge,
    progress,
)
from course_lib.exercises.chapter_04 import REPORT, balance
from course_lib.exercises.chapter_05 import common_slope, schools
from course_lib.exercises.checker import read, same, value_of
from course_lib.exercises.progress import chapters_with_exercises, exercises_of, session
from course_lib.explain import linear_shap
from course_lib.mixed.compare import exact_rlrt, lr_test
from course_lib.mixed.result import lmer
from course_lib.reshape import own_slopes, within_between
from course_lib.simulate import GrowthDesign, simulate_growth

scores = sys.modules["course_lib.exercises.progress"]  # the door shows a function of that name
RIGHT = 12.3456
NUMBER = Exercise(
    id="98.1",
    question="How large is the slope?",
    right=lambda: RIGHT,
    success="The slope is per day.",
    mistakes=(
        Mistake(lambda: RIGHT * (1 + 1e-6), "never reached: it equals the right answer"),
        Mistake(lambda: 1 / 0, "never reached: it cannot be computed"),
        Mistake(lambda: RIGHT / 24, "that is the slope per hour."),
        Mistake(lambda: -2.0, "that is the first of two hints."),
        Mistake(lambda: -2.0, "that is the second of two hints."),
    ),
)
ZERO = Exercise("98.2", "Which variance?", lambda: 0.0, "On the boundary.", absolute=1e-6)
SEQUENCE = Exercise(
    "98.3",
    "Which two variances?",
    lambda: np.array([612.0, 35.0]),
    "Both.",
    kind="numbers",
    mistakes=(Mistake(lambda: np.sqrt([612.0, 35.0]), "those are standard deviations."),),
)
MAPPING = Exercise(
    "98.4",
    "Which fixed effects?",
    lambda: pd.Series({"Intercept": 251.4, "Days": 10.47}),
    "Both.",
    kind="mapping",
    mistakes=(
        Mistake(lambda: {"Intercept": 306.0, "Days": 10.47}, "that is the level on day 4.5."),
        Mistake(lambda: {"Intercept": 251.4, "Days": 7.2}, "that is the REML slope."),
        Mistake(lambda: {"Intercept": 10.47, "Days": 251.4}, "swapped."),
    ),
)
CHOICE = Exercise(
    "98.10",
    "Nested or crossed?",
    lambda: "nested",
    "Each class has one school.",
    kind="choice",
    options=("nested", "crossed"),
    mistakes=(Mistake(lambda: "crossed", "each class would have to meet each school."),),
)
TRUTH = Exercise("98.11", "Is it singular?", lambda: np.bool_(True), "It is.", kind="choice")
EVERY = (NUMBER, ZERO, SEQUENCE, MAPPING, CHOICE, TRUTH)


class Hostile:
    """An answer that breaks whatever looks at it."""

    def _break(self, *_):
        raise RuntimeError("hands off")

    __array__ = __float__ = __eq__ = __len__ = __iter__ = __repr__ = __bool__ = _break
    __getattr__ = __getitem__ = __call__ = __index__ = __sub__ = __abs__ = __str__ = _break
    __hash__ = None


class HostileDict(dict):
    """A dict that cannot be read."""

    items = values = keys = __iter__ = __getitem__ = Hostile._break


def deep(levels):
    """A dict and a list within a dict and a list, and so on."""
    answer = {"Days": [1.0]}
    for _ in range(levels):
        answer = {"Days": [answer], "Intercept": answer}
    return answer


@pytest.fixture(autouse=True)
def fresh_session(monkeypatch):
    module = types.ModuleType("course_lib.exercises.chapter_98")
    module.EXERCISES = EVERY
    monkeypatch.setitem(sys.modules, module.__name__, module)
    chapters = [*chapters_with_exercises(), 98]
    monkeypatch.setattr(scores, "chapters_with_exercises", lambda: chapters)
    session.clear()


def hint(exercise, answer):
    """The message for an answer that must be judged wrong."""
    verdict = judge(exercise, answer)
    assert verdict.correct is False
    assert verdict.message.startswith("Not yet: ")
    return verdict.message


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        12.35,
        np.float32(RIGHT),
        np.array(RIGHT),
        np.array([[RIGHT]]),
        [RIGHT],
        pd.Series([RIGHT], index=["Days"]),
        pd.DataFrame({"slope": [RIGHT]}),
        Fraction(123456, 10_000),
        Decimal("12.3456"),
    ],
)
def test_right_number_is_right_in_any_container(answer):
    verdict = judge(NUMBER, answer)
    assert verdict == Verdict("98.1", True, "Right: The slope is per day.")


def test_relative_tolerance_is_one_percent():
    assert judge(NUMBER, RIGHT * 1.0099).correct is True
    assert judge(NUMBER, RIGHT * 1.0101).correct is False


def test_absolute_tolerance_serves_a_right_answer_of_zero():
    assert judge(ZERO, 9e-7).correct is True
    assert judge(ZERO, 1.1e-6).correct is False


def test_known_mistake_gets_its_own_hint():
    assert hint(NUMBER, RIGHT / 24) == "Not yet: that is the slope per hour."
    assert hint(NUMBER, -2.0) == "Not yet: that is the first of two hints."
    assert "standard deviations" in hint(SEQUENCE, [24.74, 5.916])
    assert "meet each school" in hint(CHOICE, "crossed")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (-RIGHT, "sign"),
        (RIGHT * 100, "factor of 100"),
        (RIGHT / 100, "factor of 100"),
        (RIGHT * 1.03, "close"),
        (RIGHT**2, "a variance in place of a standard deviation"),
        (np.sqrt(RIGHT), "a standard deviation in place of a variance"),
        (1 / RIGHT, "upside down"),
        (RIGHT * 1000, "factor of 1000"),
        (99.0, "sign and order of magnitude are right, the number is not"),
        (-99.0, "the sign is not right"),
        (4321.0, "the size is too large by an order of magnitude"),
        (-4321.0, "the sign is not right"),
        (0.2, "the size is too small by an order of magnitude"),
        (0, "the size is too small"),
        (1e308, "the size is too large"),
        (10**400, "infinite"),
        ("12.3456", "not text"),
        (["12.3456"], "not text"),
        (True, "not True or False"),
        (None, "None"),
        (np.nan, "NaN"),
        (pd.NA, "NaN"),
        (np.inf, "infinite"),
        (np.mean, "function"),
        ([1.0, 2.0], "a single number; this list holds 2"),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "a single number; this DataFrame holds 4"),
        ({"slope": RIGHT}, "by name in a dict"),
        (3 + 2j, "not a value of type complex128"),
        (pd.Timestamp("2020-01-01"), "not a Timestamp"),
        (np.datetime64("2020-01-01"), "not a value of type datetime64"),
        ([[1, 2], [3]], "cannot be compared"),
        ([], "holds 0"),
    ],
)
def test_wrong_number_is_told_why(answer, words):
    assert words in hint(NUMBER, answer)


def test_specific_mistake_comes_before_the_general_hint():
    sign = Exercise(
        "98.5", "?", lambda: 2.0, "", mistakes=(Mistake(lambda: -2.0, "b minus a."),)
    )
    assert hint(sign, -2.0) == "Not yet: b minus a."


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        (SEQUENCE, [612.0], "give 2 numbers; this is 1"),
        (SEQUENCE, [35.0, 612.0], "order"),
        (SEQUENCE, (612.0, 99.0), "look again at number 2 (sign and order"),
        (SEQUENCE, [-1.0, 7.0], "look again at number 1 (the sign is not right), number 2"),
        (SEQUENCE, [-612.0, -35.0], "the size is right, the sign is not"),
        (MAPPING, 10.47, "by name, in a dict or a Series"),
        (MAPPING, {"Intercept": 251.4}, "no value named 'Days'"),
        (MAPPING, {"intercept": 251.4}, "no value named 'Intercept' or 'Days'"),
        (
            MAPPING,
            {"Intercept": 251.4, "Days": 1.0},
            "look again at 'Days' (the size is too",
        ),
        (MAPPING, {"Intercept": 0.2514, "Days": 2.0}, "'Intercept' (off by a factor of 100"),
        (MAPPING, {"Intercept": 7.0, "Days": -2.0}, "'Days' (the sign is not right)"),
        (MAPPING, {"Intercept": [1, 2], "Days": None}, "'Intercept': give a single number; "),
        (MAPPING, {"Intercept": [1, 2], "Days": None}, "'Days': the answer is None"),
        (MAPPING, {"Intercept": 251.4, "Days": "ten"}, "not text"),
        (CHOICE, "both", "not one of the choices"),
        (CHOICE, True, "a text in quotes"),
        (CHOICE, 1, "a text in quotes"),
        (TRUTH, "True", "without quotation marks"),
        (TRUTH, 1, "without quotation marks"),
        (TRUTH, False, "look for the cell that shows it"),
    ],
)
def test_other_kinds_are_told_why(exercise, answer, words):
    assert words in hint(exercise, answer)


@pytest.mark.parametrize("answer", ["W B B P", "w, b, b, p", " WBBP.", "(W/B/B/P)"])
def test_marks_between_letters_do_not_matter(answer):
    letters = next(one for one in chapter_02.EXERCISES if one.id == "2.2")
    assert judge(letters, answer).correct is True


@pytest.mark.parametrize("answer", ["c)", "C.", "(c)"])
def test_marks_around_a_letter_do_not_matter(answer):
    one_letter = next(one for one in chapter_02.EXERCISES if one.id == "2.4")
    assert judge(one_letter, answer).correct is True


def exercise_of_chapter_1(number):
    return next(one for one in chapter_01.EXERCISES if one.id == number)


@pytest.mark.parametrize("answer", ["BC", "CB", "c, b", "B/C"])
def test_order_of_the_letters_does_not_matter(answer):
    assert judge(exercise_of_chapter_1("1.5"), answer).correct is True


@pytest.mark.parametrize(
    ("number", "answer"), [("1.5", "AE"), ("1.5", "B"), ("1.5", "ABC"), ("1.5", "bd?c")]
)
def test_letters_that_are_no_choice_get_no_suggestion(number, answer):
    words = hint(exercise_of_chapter_1(number), answer)
    assert "is not one of the choices. There is: A" in words
    assert "Perhaps" not in words


@pytest.mark.parametrize("answer", [0.0436, 0.044, 0.053])
def test_share_with_the_uncertainty_of_the_mean_is_explained(answer):
    assert "for the next person" in hint(exercise_of_chapter_1("1.2"), answer)


def test_residual_sd_of_the_jaws_is_explained():
    assert "residual standard deviation" in hint(exercise_of_chapter_1("1.1"), 1.31)


def test_many_options_are_described_and_not_listed():
    letters = next(one for one in chapter_02.EXERCISES if one.id == "2.2")
    for answer in ("WBB", "W B B", "wbbpp"):
        words = hint(letters, answer)
        assert words.endswith(
            "is not one of the choices. Write four letters out of W, B and P."
        )


def test_each_wrong_letter_is_explained():
    letters = next(one for one in chapter_02.EXERCISES if one.id == "2.2")
    assert "question 3" not in hint(letters, "BBBB")
    assert "question 1: it compares" in hint(letters, "BBBB")
    assert "question 4: one row" in hint(letters, "BBBB")


def test_right_parts_are_not_blamed():
    words = hint(MAPPING, {"Intercept": 251.4, "Days": 1.0})
    assert "'Intercept'" not in words
    assert "number 1" not in hint(SEQUENCE, [612.0, 99.0])


def test_each_part_is_told_its_own_mistake():
    both = hint(MAPPING, {"Intercept": 306.0, "Days": 7.2})
    assert both == "Not yet: that is the level on day 4.5. that is the REML slope."
    one = hint(MAPPING, {"Intercept": 306.0, "Days": -2.0})
    assert "that is the level on day 4.5. Also not right: 'Days' (the sign" in one


def test_general_hint_says_what_is_wanted():
    wanted = Exercise("98.9", "?", lambda: 2.0, "", wanted="a time in ms")
    assert "Asked for is a time in ms. Which rows" in hint(wanted, 3.1)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (SEQUENCE, (612.1, 35.1)),
        (SEQUENCE, pd.Series([612, 35], index=["a", "b"])),
        (MAPPING, {"Days": 10.47, "Intercept": 251.4}),
        (MAPPING, pd.Series({"Intercept": 251.4, "Days": 10.47, "more": 1})),
        (MAPPING, pd.DataFrame({"Intercept": [251.4], "Days": [10.47]})),
        (CHOICE, "  Nested "),
        (CHOICE, np.str_("nested")),
        (TRUTH, True),
        (TRUTH, np.bool_(True)),
    ],
)
def test_other_kinds_accept_any_sensible_form(exercise, answer):
    assert judge(exercise, answer).correct is True


@pytest.mark.parametrize("answer", [..., [..., 1.0], (..., ...), {"Days": ...}])
@pytest.mark.parametrize("exercise", EVERY)
def test_dots_are_no_answer(exercise, answer):
    verdict = judge(exercise, answer)
    assert verdict.correct is None
    assert verdict.message.startswith("Not answered yet")


@pytest.mark.parametrize("exercise", EVERY)
@pytest.mark.parametrize(
    "answer",
    [None, object(), Hostile(), [Hostile()], {}, set(), b"x", "", float, NUMBER, iter("ab")]
    + [pd.DataFrame(), np.array([]), np.ma.masked, pd.NaT, pd.Series([None, "a"]), np.zeros(9)]
    + [np.nan, np.inf, -np.inf, 1e308, -(10**400), 1j, range(10**6), HostileDict(a=1)]
    + [deep(3), deep(300), {"Days": Hostile(), "Intercept": 1}, {Hostile: 1}, {1: {}, None: 2}]
    + [pd.DataFrame({"a": [1, "b"]}), np.zeros((2, 0)), memoryview(b"12"), pytest, judge],
    ids=lambda answer: type(answer).__name__,
)
def test_no_answer_raises(exercise, answer):
    assert hint(exercise, answer)


def test_fitted_model_is_a_wrong_answer_and_no_error():
    fit = lmer("Reaction ~ Days + (1 | Subject)", load("sleepstudy"))
    for exercise in EVERY:
        assert hint(exercise, fit)
    assert "give a number, not a LmerResult" in hint(NUMBER, fit)


def test_wrong_answers_never_show_the_right_one():
    for answer in (-RIGHT, RIGHT / 24, RIGHT * 1.03, 99.0, "x", None, [1, 2]):
        assert "12.3" not in hint(NUMBER, answer)
    for answer in ([1, 2], [35.0, 612.0], [612.0]):
        assert "612" not in hint(SEQUENCE, answer)


def test_course_that_cannot_compute_says_so():
    broken = Exercise("98.6", "?", lambda: 1 / 0, "")
    verdict = judge(broken, 1.0)
    assert verdict.correct is None
    assert verdict.message.startswith("Not checked: the course failed")


def test_right_answer_is_computed_once():
    calls = []
    counted = Exercise("98.7", "?", lambda: calls.append(1) or 5.0, "")
    assert judge(counted, ...).correct is None
    assert calls == []
    assert [judge(counted, value).correct for value in (5.0, 6.0)] == [True, False]
    assert calls == [1]


def test_verdict_shows_as_text_and_as_markdown():
    verdict = check("98.1", RIGHT)
    assert repr(verdict) == "Right: The slope is per day."
    assert verdict._repr_markdown_() == "**Right:** The slope is per day."


def test_progress_lists_all_exercises_of_the_course():
    for name, answer in (("98.10", "crossed"), ("98.1", 1.0), ("98.1", RIGHT), ("98.2", ...)):
        check(name, answer)
    table = progress()
    assert table["exercise"].tolist() == [
        exercise.id for k in (*chapters_with_exercises(), 98) for exercise in exercises_of(k)
    ]
    assert (table[table["chapter"] < 98]["state"] == "not answered").all()
    assert table[table["chapter"] == 98].to_numpy().tolist() == [
        [98, "98.1", "right", 2],
        [98, "98.2", "not answered", 0],
        [98, "98.3", "not answered", 0],
        [98, "98.4", "not answered", 0],
        [98, "98.10", "not yet", 1],
        [98, "98.11", "not answered", 0],
    ]


def state_of(name):
    """State and tries of one exercise."""
    return progress().set_index("exercise").loc[name, ["state", "tries"]].tolist()


def test_every_wrong_answer_counts_and_dots_do_not():
    for answer in (1.0, "x", Hostile(), ..., None, ...):
        check("98.1", answer)
    assert state_of("98.1") == ["not yet", 4]


def test_right_answer_stays_right():
    for answer in (RIGHT, 1.0, RIGHT, ...):
        check("98.1", answer)
    assert state_of("98.1") == ["right", 1]


def test_progress_of_a_new_session_has_the_same_types():
    fresh = progress()
    assert list(fresh.columns) == ["chapter", "exercise", "state", "tries"]
    assert (fresh["state"] == "not answered").all()
    check("98.1", RIGHT)
    assert (progress().dtypes == fresh.dtypes).all()


def test_progress_shows_in_a_notebook_and_is_a_copy():
    check("98.1", ...)
    assert "not answered" in progress()._repr_html_()
    table = progress()
    table["state"] = "right"
    assert state_of("98.1") == ["not answered", 0]


@pytest.mark.slow
def test_import_loads_no_chapter():
    code = (
        "import sys, course_lib.exercises as exercises;"
        "print(sorted(name for name in sys.modules if 'exercises.chapter' in name));"
        "exercises.check('1.1', ...);"
        "print(sorted(name for name in sys.modules if 'exercises.chapter' in name))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert run.stdout.split("\n")[:2] == ["[]", "['course_lib.exercises.chapter_01']"]


# The learner's copy keeps the score.


@pytest.fixture
def my_course(tmp_path, monkeypatch):
    """The working directory of a chapter in the learner's copy, as start.py makes it."""
    (tmp_path / "solutions").mkdir()
    (tmp_path / scores.ANSWERS).write_text("{}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def restart():
    """What was answered since the kernel started is gone."""
    session.clear()


def test_answers_survive_a_restart_in_the_learners_copy(my_course):
    for name, answer in (("98.1", 1.0), ("98.1", RIGHT), ("98.10", "crossed"), ("98.2", ...)):
        check(name, answer)
        restart()
    assert state_of("98.1") == ["right", 2]
    assert state_of("98.10") == ["not yet", 1]
    assert state_of("98.2") == ["not answered", 0]
    check("98.1", 1.0)
    restart()
    assert state_of("98.1") == ["right", 2]
    assert [path.name for path in my_course.iterdir() if path.is_file()] == [scores.ANSWERS]


@pytest.mark.slow
def test_another_kernel_sees_what_was_answered(my_course):
    check("1.1", 1.0)
    code = (
        "from course_lib.exercises import check, progress; check('2.1', 1.0);"
        "print(*progress().query('tries > 0')['exercise'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert run.stdout.split() == ["1.1", "2.1"]
    assert state_of("2.1") == ["not yet", 1]


def test_solutions_do_not_count(my_course, monkeypatch):
    monkeypatch.chdir(my_course / "solutions")
    check("98.1", RIGHT)
    assert state_of("98.1") == ["right", 1]
    monkeypatch.chdir(my_course)
    assert state_of("98.1") == ["not answered", 0]
    assert list((my_course / "solutions").iterdir()) == []


def test_elsewhere_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check("98.1", RIGHT)
    assert list(tmp_path.iterdir()) == []
    restart()
    assert state_of("98.1") == ["not answered", 0]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"1.1": 3}', '{"1.1": {"right": 1}}', "7"])
def test_damaged_answers_stop_no_check_and_are_left_alone(my_course, text):
    (my_course / scores.ANSWERS).write_text(text, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"not kept\. my_answers\.json: must hold .* again"):
        assert check("98.1", RIGHT).correct
    with pytest.raises(CourseError, match=r"my_answers\.json: must hold"):
        progress()
    assert (my_course / scores.ANSWERS).read_text(encoding="utf-8") == text


def test_answers_that_cannot_be_written_stop_no_check(my_course, monkeypatch):
    def full(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(UserWarning, match="not kept.*no space left"):
        assert check("98.1", RIGHT).correct


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("98.12", r"one of chapter 98; got '98.12'\. .*98\.1"),
        ("97.1", r"of a chapter that has exercises; got '97.1'"),
        ("two", r"must be the id of an exercise; got 'two'\. Write it as text"),
        (2.1, r"got 2\.1\. Write it as text"),
        (None, "got None"),
    ],
)
def test_unknown_exercise_is_an_error_with_a_next_step(name, words):
    with pytest.raises(CourseError, match=words):
        check(name, 1.0)
    assert progress()["tries"].sum() == 0


def test_unknown_kind_is_an_error():
    with pytest.raises(CourseError, match="kind: must be one of the known options"):
        Exercise("98.8", "?", lambda: 1.0, "", kind="numbr")


# Every exercise of the course.

CHAPTERS = chapters_with_exercises()
COURSE = [
    pytest.param(exercise, chapter, id=exercise.id)
    for chapter in CHAPTERS
    for exercise in exercises_of(chapter)
]
COUNT_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_four_to_six_exercises_in_order(chapter):
    names = [exercise.id for exercise in exercises_of(chapter)]
    assert 4 <= len(names) <= 6
    assert names == [f"{chapter}.{place}" for place in range(1, len(names) + 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("exercise", "chapter"), COURSE)
def test_exercise_of_the_course_judges_its_own_answers(exercise, chapter):
    assert exercise.id.startswith(f"{chapter}.")
    assert exercise.question
    assert exercise.success
    assert judge(exercise, value_of(exercise.right)).correct is True
    for mistake in exercise.mistakes:
        assert judge(exercise, value_of(mistake.value)).message == f"Not yet: {mistake.hint}"


@pytest.mark.slow
@pytest.mark.parametrize(("exercise", "chapter"), COURSE)
def test_exercise_of_the_course_knows_two_mistakes_that_are_told_apart(exercise, chapter):
    right = read(exercise, value_of(exercise.right))
    wrong = [read(exercise, value_of(mistake.value)) for mistake in exercise.mistakes]
    assert len(wrong) >= 2
    for place, one in enumerate(wrong):
        for other in [right, *wrong[:place]]:
            assert not same(exercise, one, other)
            assert not same(exercise, other, one)
    hints = [mistake.hint for mistake in exercise.mistakes]
    assert len(set(hints)) == len(hints)


def test_judgements_of_chapter_2_rest_on_facts():
    p, low, high = chapter_02.country_gap()
    assert (round(p, 2), round(low, 2), round(high, 2)) == (0.16, -0.08, 0.48)
    wages = load("wage_panel")
    assert (wages.groupby("nr")["educ"].nunique() == 1).all()  # question 3: nothing within
    pooled, of_means = (
        np.polyfit(rows["educ"], rows["lwage"], 1)[0]
        for rows in (wages, wages.groupby("nr")[["educ", "lwage"]].mean())
    )
    assert pooled == pytest.approx(of_means)  # as the hint to "P" for question 3 says
    together = wages.groupby("nr")[["union", "educ", "black", "lwage"]].mean().corr()
    assert together.loc["union", "educ"] < 0.01  # exercise 2.5: no more schooling,
    assert together.loc["union", "black"] > 0.1  # more often black,
    assert together.loc["lwage", "black"] < -0.1  # and black men earn less
    assert chapter_02.union_gap() > chapter_02.union_gap("")


def test_printed_digits_of_chapter_2_are_enough():
    by_id = {exercise.id: exercise for exercise in chapter_02.EXERCISES}
    for name, answers in (("2.3", (69.6, 70)), ("2.5", (0.19, 0.193))):
        for answer in answers:
            assert judge(by_id[name], answer).correct is True


def test_choice_of_tests_of_chapter_3_rests_on_facts():
    schools = load("hsb82")
    assert schools["school"].nunique() == 160
    assert load("dyestuff")["Batch"].nunique() == 6
    level, slopes, more = (
        lmer(f"mAch ~ {formula}", schools)
        for formula in (
            "ses + (1 | school)",
            "ses + (ses | school)",
            "ses + sector + sx + (1 | school)",
        )
    )
    edge, chi2 = lr_test(level, slopes, "boundary"), lr_test(level, slopes)
    assert edge.criterion == "REML"  # question 1: REML is allowed,
    assert edge.pvalue < chi2.pvalue  # and χ² is too careful
    assert lr_test(level, more).criterion == "ML"  # question 2: REML is not
    with pytest.raises(CourseError):
        lr_test(level, more, "boundary")
    rng = np.random.default_rng(1)
    with pytest.raises(CourseError, match="one"):
        exact_rlrt(slopes, rng=rng)
    batches = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff"))
    assert exact_rlrt(batches, rng=rng).pvalue < 0.01


def test_every_wrong_letter_of_exercise_3_5_has_a_reason():
    right = chapter_03.RIGHT
    for place, letter in enumerate(right):
        assert sorted(chapter_03.WHY_NOT[place]) == sorted(set("BRMSE") - {letter})
    (exercise,) = [one for one in chapter_03.EXERCISES if one.id == "3.5"]
    message = judge(exercise, "RMMB").message
    assert all(f"question {place}: " in message for place in (1, 3, 4))
    assert "question 2: " not in message


@pytest.mark.parametrize("count", [7, 300])
def test_a_wrong_count_is_not_asked_for_rows_or_models(count):
    (exercise,) = [one for one in chapter_03.EXERCISES if one.id == "3.1"]
    assert "Which rows" not in judge(exercise, count).message


def test_judgements_of_chapter_6_rest_on_facts():
    survey = within_between(load("hsb82"), "ses", by="school")
    right = f"{chapter_06.STEPS[3]} + (ses_within | school)"
    fit = lmer(f"mAch ~ {right}", survey)
    steeper = fit.fixed_table().loc["ses_within:sector[T.Public]"]
    assert steeper["lower"] > 0  # sentence C
    between = fit.fe_params["ses_between"]
    assert between == pytest.approx(5.3, abs=0.05)
    assert fit.fe_params["ses_within"] < 0.5 * between  # sentence D
    by_hand = 100 * (1 - 1.54**2 / 2.95**2)  # from the printed table
    by_id = {exercise.id: exercise for exercise in chapter_06.EXERCISES}
    for name, answer in (("6.2", by_hand), ("6.4", 0.321 / 0.051), ("6.3", "E, C")):
        assert judge(by_id[name], answer).correct is True


def test_judgements_of_chapter_8_rest_on_facts():
    rows, fit = chapter_08.survey(), chapter_08.school_fit()
    beta = fit.fe_params.round(1)
    assert (beta["ses_within"], beta["catholic"], beta["ses_between"]) == (2.6, 1.7, 4.1)
    assert fit.fixed_table().loc["ses_within:catholic", "upper"] < -0.5  # sentence B
    raw = lmer("mAch ~ catholic + (1 | school)", rows).fe_params["catholic"]
    assert raw == pytest.approx(2.8, abs=0.05)  # sentence C: not 1.7
    slopes = chapter_08.slope_fit()
    assert slopes.fixed_table().loc["Days", ["lower", "upper"]].round(1).to_list() == [
        7.2,
        13.7,
    ]
    assert slopes.sd("Subject", "Days") > slopes.fe_params["Days"] / 2  # 8.4: B is missing


def test_what_drops_out_within_schools_is_what_acts_alike():
    rng = np.random.default_rng(85)
    school = np.repeat(np.arange(400), 25)
    ses = rng.standard_normal(400)[school] + rng.standard_normal(school.size)
    level = pd.Series(ses).groupby(school).transform("mean")
    noise = rng.standard_normal(school.size)
    ability = rng.standard_normal(school.size)
    at_home = ses + noise  # explanation 2
    of_school = level + noise  # explanations 1 and 3
    admitted = (ses < 0) | (ability > 0)  # explanation 4
    worlds = {"R": (of_school, school == school), "N": (at_home, school == school)}
    worlds["N, the door"] = (ability, admitted)
    for verdict, (score, kept) in worlds.items():
        table = pd.DataFrame({"score": score, "ses": ses, "school": school.astype(str)})[kept]
        split = within_between(table, "ses", by="school")
        slope = np.polyfit(split["ses_within"], split["score"], 1)[0]
        assert (abs(slope) > 0.1) == verdict.startswith("N"), verdict


def test_intervals_of_exercise_8_1_tell_a_catholic_school_and_round():
    (exercise,) = [one for one in chapter_08.EXERCISES if one.id == "8.1"]
    right = chapter_08.new_school()
    assert judge(exercise, right.round(2)).correct is True
    message = judge(exercise, chapter_08.new_school(catholic=1.0).round(2)).message
    assert "Catholic" in message


def test_printed_digits_of_chapter_8_are_enough():
    by_id = {exercise.id: exercise for exercise in chapter_08.EXERCISES}
    cov = 0.066 * 24.74 * 5.92
    between = 24.74**2 + 81 * 5.92**2 + 18 * cov
    assert judge(by_id["8.3"], between / (between + 25.59**2)).correct is True
    assert judge(by_id["8.3"], 0.85).correct is True


def test_winner_of_the_forecast_of_exercise_6_1_is_another():
    rmse = {
        formula: chapter_06.rms(chapter_06.forecast_misses(formula))
        for formula in (chapter_06.LEVEL, chapter_06.SLOPE)
    }
    assert rmse[chapter_06.LEVEL] < rmse[chapter_06.SLOPE]


def wrong_answers(exercise):
    """Typical mistakes, the right numbers bent in many ways, and junk."""
    yield from (value_of(mistake.value) for mistake in exercise.mistakes)
    yield from (None, "x", np.nan, np.inf, True, [], {}, [1] * 9, 1e308, print, Hostile())
    if exercise.kind == "choice":
        yield from (1, 0.5, 2 * "x", exercise.right() is False)
        return
    right = read(exercise, value_of(exercise.right))
    factors = (-1, 100, 0.01, 1000, 1 + 3 * exercise.tolerance, 1.7, -1.7, 0.4, 17, 0.04)
    bent = [right * factor for factor in factors]
    bent += [right**2, np.sqrt(np.abs(right)), 1 / np.where(right == 0, 1, right), right + 1]
    names = [*value_of(exercise.right).keys()] if exercise.kind == "mapping" else []
    for whole in bent:
        if exercise.kind == "number":
            yield whole.item()
            continue
        for changed in (*np.eye(right.size, dtype=bool), np.ones(right.size, dtype=bool)):
            numbers = np.where(changed, whole, right)
            yield dict(zip(names, numbers, strict=True)) if names else numbers


def gives_away(message, exercise):
    """The tokens of a message that are the right answer in a usual rounding."""
    if exercise.kind == "choice":
        return []
    right = read(exercise, value_of(exercise.right))
    forms = set()
    for value in right[
        ~np.isclose(right, 0) & ~np.isclose(right, 1)
    ]:  # words of any hint, such as "1 / 0"
        for scaled in (value, 100 * value):
            forms |= {float(f"{scaled:.{digits}g}") for digits in range(2, 8)}
            forms |= {round(scaled, places) for places in range(1, 6)}
            if abs(scaled) >= 10:
                forms |= {float(np.floor(scaled)), float(np.ceil(scaled))}
    words = message.casefold().translate({ord("−"): "-"})
    numbers = re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", words)
    found = [token for token in numbers if {float(token), -float(token)} & (forms - {0.0})]
    if exercise.kind == "number" and right[0] in range(21):
        found += re.findall(rf"\b{COUNT_WORDS.split()[int(right[0])]}\b", words)
    return found


def test_detector_of_given_away_answers_detects():
    for told in ("it is 12.35", "about 12.3", "12 ms", "1235 per cent", "12.3456!", "-12.346"):
        assert gives_away(told, NUMBER)
    for fine in ("it is 1.2", "day 9", "off by a factor of 100", "0.05", "2 of 3"):
        assert gives_away(fine, NUMBER) == []


@pytest.mark.slow
@pytest.mark.parametrize(("exercise", "chapter"), COURSE)
def test_no_hint_of_the_course_gives_the_answer_away(exercise, chapter):
    judged = [judge(exercise, answer) for answer in wrong_answers(exercise)]
    wrong = {verdict.message for verdict in judged if not verdict.correct}
    assert len(wrong) >= 3
    for message in wrong:
        assert message.startswith("Not yet: ")
        assert gives_away(message, exercise) == [], message


# The facts behind judgements: exercises whose key is written down.


@pytest.fixture(scope="module")
def sleep_fit():
    return lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))


def test_four_times_the_people_halve_the_standard_error_of_the_mean_only(sleep_fit):
    """Exercise 1.4."""
    sleep = load("sleepstudy")
    copies = [sleep.assign(Subject=sleep["Subject"] + f"-{k}") for k in range(4)]
    large = lmer("Reaction ~ Days + (Days | Subject)", pd.concat(copies, ignore_index=True))
    assert large.bse_fe["Days"] / sleep_fit.bse_fe["Days"] == pytest.approx(0.5, abs=0.02)
    for name in [("Subject", "Days"), ("Residual",)]:
        assert large.sd(*name) / sleep_fit.sd(*name) == pytest.approx(1, abs=0.03)
    errors = [fit.random_effects_se["Subject"]["Days"].iloc[0] for fit in (large, sleep_fit)]
    assert errors[0] / errors[1] == pytest.approx(1, abs=0.03)


def test_more_rows_per_person_make_one_slope_known_about_twice_as_well(sleep_fit):
    """Exercise 1.4, plan 2; four rows per day drawn from the model itself."""
    days = pd.concat([load("sleepstudy")] * 4, ignore_index=True)
    lines = sleep_fit.coef()["Subject"].loc[days["Subject"]]
    rng = np.random.default_rng(14)
    noise = rng.normal(0, sleep_fit.sd("Residual"), len(days))
    reaction = lines["Intercept"].to_numpy() + lines["Days"].to_numpy() * days["Days"] + noise
    large = lmer("Reaction ~ Days + (Days | Subject)", days.assign(Reaction=reaction))
    errors = [fit.random_effects_se["Subject"]["Days"].iloc[0] for fit in (large, sleep_fit)]
    assert 0.45 < errors[0] / errors[1] < 0.65
    assert large.bse_fe["Days"] / sleep_fit.bse_fe["Days"] > 0.8


def test_slope_of_subject_335_cannot_be_told_from_zero(sleep_fit):
    """Exercise 1.5."""
    slope = sleep_fit.coef()["Subject"].loc["335", "Days"]
    error = sleep_fit.random_effects_se["Subject"].loc["335", "Days"]
    assert abs(slope) < 0.5 < 2 < error
    assert sleep_fit.fe_params["Days"] - slope > 4 * error  # and yet below the mean


# The facts behind the judgements of chapter 4.


def test_report_of_4_1_is_the_one_that_the_chapter_shows():
    folder = Path(__file__).resolve().parents[2] / "chapters"
    for path in (folder, folder / "solutions"):
        text = (path / "04_data_reshaping.ipynb").read_text(encoding="utf-8")
        cells = json.loads(text)["cells"]
        assert any(REPORT in "".join(cell["source"]) for cell in cells)
    assert list(balance().values()) == [2, 1, 1, 2, 10]


@pytest.mark.slow
def test_4_2_only_discharge_keeps_the_slope_and_narrows_the_interval():
    # Pain as scores: A and D by accident, B hiding, C dropout; 60 schools of 40 students each
    design = GrowthDesign(
        n_schools=1, classes_per_school=1, students_per_class=40, sd_class=0.0, sd_school=0.0
    )
    rng, found = np.random.default_rng(42), []
    for _ in range(60):
        table = simulate_growth(design, rng)
        scores = table["score"].to_numpy().reshape(-1, 5)
        low = np.logical_or.accumulate(scores[:, :-1] < 47, axis=1)
        gaps = {
            "A": rng.random(scores.shape) < 0.2,
            "B": (scores < 52) & (rng.random(scores.shape) < 0.8),
            "C": np.column_stack([np.zeros(len(low), bool), low]),
            "D": rng.random(scores.shape) < 0.5,
        }
        for study, gap in gaps.items():
            known = table.assign(score=table["score"].mask(gap.ravel()))
            fit = lmer("score ~ time + (time | student_id)", known)
            cov = fit.cov_re["student_id"].loc["Intercept", "time"]
            found.append([study, fit.fe_params["time"], fit.bse_fe["time"], cov])
    fits = pd.DataFrame(found, columns=["study", "slope", "error", "cov"])
    by_study = fits.groupby("study")
    bias = (by_study["slope"].mean() - 3).abs() / by_study["slope"].sem()
    narrow = by_study["error"].mean() / by_study["slope"].std()
    assert (bias[["A", "C", "D"]] < 3).all()
    assert bias["B"] > 4
    assert narrow["C"] < 0.85 < narrow[["A", "D"]].min()
    # The chapter: the errors of slope and variances go together
    dropout = fits[fits["study"] == "C"]
    assert dropout["slope"].corr(dropout["cov"]) < -0.3


def test_4_5_equal_coffee_today_asks_for_the_contextual_effect():
    rng = np.random.default_rng(45)
    person = np.repeat(np.arange(80), 14)
    usual = rng.uniform(0, 5, 80)[person]
    coffee = usual + rng.normal(0, 1, len(person))
    mean = pd.Series(coffee).groupby(person).transform("mean")
    level = rng.normal(0, 0.2, 80)[person]
    sleep = 7 - 0.2 * (coffee - mean) + 0.3 * mean + level + rng.normal(0, 0.3, len(person))
    table = pd.DataFrame({"person": person, "coffee": coffee, "mean": mean, "sleep": sleep})
    fit = lmer("sleep ~ coffee + mean + (1 | person)", table)
    assert abs(fit.fe_params["mean"] - 0.5) < 3.5 * fit.bse_fe["mean"]
    assert abs(fit.fe_params["mean"] - 0.3) > 4 * fit.bse_fe["mean"]


@pytest.mark.slow
def test_profile_interval_of_chapter_4_ends_where_the_deviance_has_risen_by_its_quantile():
    rng = np.random.default_rng(5)
    table = simulate_growth(GrowthDesign(n_schools=1, missing_fraction=0.2), rng).dropna()
    free = lmer("score ~ time + (time | student_id)", table, reml=False)
    for edge in free.conf_int("profile").loc["time", ["lower", "upper"]]:
        rest = table.assign(rest=table["score"] - edge * table["time"])
        held = lmer("rest ~ 1 + (time | student_id)", rest, reml=False)
        assert abs(held.deviance - free.deviance - 3.8415) < 1e-3


# The facts behind the judgements of chapter 5.


def test_5_1_the_extreme_intervals_of_sixty_equal_slopes_do_not_touch():
    draws = np.random.default_rng(51).normal(size=(2000, 60))
    assert np.mean(np.ptp(draws, axis=1) > 2 * 1.96) > 0.8


def test_5_2_a_simulation_of_2000_worlds_is_exact_enough():
    (exercise,) = (e for e in exercises_of(5) if e.id == "5.2")
    public = schools("Public")
    right, rng = [], np.random.default_rng(52)
    for _ in range(40):
        noise = rng.normal(size=(2000, 90)) * public["std_error"].to_numpy()
        count = (common_slope(public) + noise < 0).sum(axis=1).mean()
        right.append(judge(exercise, count).correct)
    assert np.mean(right) > 0.95


def test_5_4_neither_equal_growth_nor_a_large_sd_is_ruled_out():
    data = load("orthodont")
    one = lmer("distance ~ age + (1 | Subject)", data)
    fit = lmer("distance ~ age + (age | Subject)", data)
    assert 0.05 < lr_test(one, fit, "boundary").pvalue < 0.1
    low, high = fit.conf_int("profile").loc["sd(age | Subject)", ["lower", "upper"]]
    assert low < 0.01
    assert high > fit.fe_params["age"] / 2
    slopes = own_slopes(data, "distance", "age", "Subject")
    common = common_slope(slopes)
    assert (
        (slopes["lower"] > common) | (slopes["upper"] < common)
    ).sum() == 1  # 1.35 by chance
    assert round(slopes["estimate"].std(), 2) == 0.37  # sentence C


def test_5_4_two_children_decide():
    for child, low, high, sd in (("M09", 0.001, 0.002, 0.30), ("M13", 0.1, 0.2, 0.11)):
        rest = load("orthodont")
        rest = rest[rest["Subject"] != child]
        one = lmer("distance ~ age + (1 | Subject)", rest)
        fit = lmer("distance ~ age + (age | Subject)", rest)
        assert low < lr_test(one, fit, "boundary").pvalue < high
        assert round(fit.sd("Subject", "age"), 2) == sd


# The facts behind the judgements of chapter 9.


def test_9_4_each_letter_follows_from_the_reports_of_the_chapter():
    folder = Path(__file__).resolve().parents[2] / "chapters"
    text = (folder / "09_explaining_predictions.ipynb").read_text(encoding="utf-8")
    (cell,) = [c for c in json.loads(text)["cells"] if c["id"] == "exercise-9-4"]
    letters = ""
    for line in re.findall(r"^\| \d \|.*", "".join(cell["source"]), re.M):
        numbers = [float(one) for one in re.findall(r"-?\d*\.\d+", line.replace("−", "-"))]
        narrow, spread, r2, wide, _, _ = numbers
        if r2 < 0.5:
            letters += "L"
        elif max(narrow, wide) < spread:
            letters += "N"
        else:
            letters += "Y" if abs(narrow - wide) < 3 * spread else "W"
    (exercise,) = (e for e in exercises_of(9) if e.id == "9.4")
    assert judge(exercise, letters).correct is True


def test_9_5_shares_as_the_library_computes_them():
    table = chapter_09.pupils()
    fit = chapter_09.additive_fit()
    peers = {"all": table, "public": table[table["catholic"] == 0]}
    peers["school"] = table[table["school"] == table.loc[4583, "school"]]
    found = {
        name: linear_shap(fit, table.loc[[4583]], background=rows)["meanses"].item()
        for name, rows in peers.items()
    }
    assert found["all"] < found["public"] - 0.1 < found["school"] - 0.2
    assert check("9.5", found).correct is True
    assert (
        check("9.5", {name: round(share, 2) for name, share in found.items()}).correct is True
    )


def test_every_other_pair_has_a_reason_for_each_wrong_letter():
    for pair in set(exercises_of(9)[5].options) - {"AE"}:
        message = check("9.6", pair).message
        assert all((f"{letter}: " in message) == (letter not in "AE") for letter in pair)


def test_hint_on_rounding_is_for_the_right_answer_rounded():
    assert "rounded too early" in check("5.3", 0.6).message
    assert "rounded too early" not in check("5.3", 0.65).message
    assert "rounded too early" not in check("8.1", [13.17, 18.60]).message

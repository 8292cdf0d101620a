"""lme4's formula as text: every bracket form and its expansion, and what cannot be read."""

import pytest

from course_lib.errors import CourseError
from course_lib.mixed.formula import Bar, Name, names_in, parse_formula


def bars(formula):
    return [(bar.left, bar.group) for bar in parse_formula(formula).bars]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("(1 | g)", [("1", ("g",))]),
        ("(x | g)", [("x", ("g",))]),
        ("(1 + x | g)", [("1 + x", ("g",))]),
        ("(0 + x | g)", [("0 + x", ("g",))]),
        ("(x - 1 | g)", [("x - 1", ("g",))]),
        ("(x || g)", [("1", ("g",)), ("0 + x", ("g",))]),
        ("(1 + x || g)", [("1", ("g",)), ("0 + x", ("g",))]),
        ("(0 + x + z || g)", [("0 + x", ("g",)), ("0 + z", ("g",))]),
        ("(1 | a/b)", [("1", ("b", "a")), ("1", ("a",))]),
        ("(x | a/b)", [("x", ("b", "a")), ("x", ("a",))]),
        ("(1 | a/b/c)", [("1", ("c", "b", "a")), ("1", ("b", "a")), ("1", ("a",))]),
        ("(1 | a) + (1 | b)", [("1", ("a",)), ("1", ("b",))]),
        ("(1 | a:b)", [("1", ("a", "b"))]),
        ("(1 | (a/b))", [("1", ("b", "a")), ("1", ("a",))]),
        ("((1 | g))", [("1", ("g",))]),
        ("(1|g)+(0+x|g)", [("1", ("g",)), ("0+x", ("g",))]),
        ("(log(x) | g)", [("log(x)", ("g",))]),
        ("(I(x**2) + (x + z) | g)", [("I(x**2) + (x + z)", ("g",))]),
        ("(poly(x, 2) | `the group`)", [("poly(x, 2)", ("the group",))]),
        ("(1 | `a b`/`c/d`)", [("1", ("c/d", "a b")), ("1", ("a b",))]),
    ],
)
def test_bracket_forms(right, expected):
    assert sorted(bars(f"y ~ x + {right}")) == sorted(expected)


def test_double_bar_with_nesting():
    found = bars("y ~ (x || a/b)")
    assert sorted(found) == sorted(
        [("1", ("b", "a")), ("0 + x", ("b", "a")), ("1", ("a",)), ("0 + x", ("a",))]
    )


@pytest.mark.parametrize(
    ("formula", "response", "fixed"),
    [
        ("y ~ x + (1 | g)", "y", "x"),
        ("y ~ (1 | g)", "y", "1"),
        ("y ~ 1 + (1 | g)", "y", "1"),
        ("y ~ 0 + x + (1 | g)", "y", "0 + x"),
        ("y ~ (1 | g) + x", "y", "x"),
        ("y ~ x + (1 | g) + z", "y", "x + z"),
        ("y ~ x + (1 | g) - 1", "y", "x - 1"),
        ("log(y) ~ x*z + (x | g)", "log(y)", "x*z"),
        ("y~x+(1|g)", "y", "x"),
        ("  y\n ~ x\n  + (1 |\n g)\n", "y", "x"),
        ("y ~ (x + z)**2 + (1 | g)", "y", "(x + z)**2"),
        ("y ~ (x + z):w + (1 | g)", "y", "(x + z):w"),
        ("`my y` ~ `x (cm)` + (1 | g)", "`my y`", "`x (cm)`"),
        ("y ~ `a|b` + `c~d` + (1 | g)", "y", "`a|b` + `c~d`"),
        ("y ~ C(f, contr.treatment('b')) + (1 | g)", "y", "C(f, contr.treatment('b'))"),
        ("y ~ C(f, contr.treatment(')|(')) + (1 | g)", "y", "C(f, contr.treatment(')|('))"),
        ('y ~ C(f, contr.treatment("~")) + (1 | g)', "y", 'C(f, contr.treatment("~"))'),
        ("y ~ I((x > 1) | (z > 1)) + (1 | g)", "y", "I((x > 1) | (z > 1))"),
    ],
)
def test_fixed_part_and_response(formula, response, fixed):
    parsed = parse_formula(formula)
    assert parsed.text == formula
    assert parsed.response == response
    assert " ".join(parsed.fixed.split()) == fixed
    assert [bar.group for bar in parsed.bars] == [("g",)]


def test_name_of_a_crossed_factor_is_lme4s():
    assert Bar("1", ("cask", "batch")).name == "cask:batch"


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (None, ["text", "None", "For example"]),
        (3, ["text", "3"]),
        ("", ["text", "''"]),
        ("  ", ["text"]),
        ("y x + (1 | g)", ["~", "y x + (1 | g)", "For example"]),
        ("~ x + (1 | g)", ["response left", "~ x + (1 | g)"]),
        ("y ~ ", ["predictors right", "y ~ "]),
        ("y ~ x ~ (1 | g)", ["one '~'", "y ~ x ~ (1 | g)"]),
        ("y ~ x", ["at least one random-effects bar", "y ~ x", "ordinary regression"]),
        ("y ~ x + (1 | g", ["close every bracket", "(1 | g", "Count"]),
        ("y ~ x + 1 | g)", ["bracket", "1 | g)", "Count"]),
        ("y ~ (x] + (1 | g)", ["bracket", "(x]"]),
        ("y ~ x + ( | g)", ["both sides", "got ( | g).", "(1 | group)"]),
        ("y ~ x + (1 | )", ["both sides", "got (1 | )."]),
        ("y ~ x + ( || g)", ["both sides", "got ( || g)."]),
        ("y ~ x + (1 | g | h)", ["bar", "1 | g | h"]),
        ("y ~ x | g", ["brackets", "x | g", "(Days | Subject)"]),
        ("y ~ x * (1 | g)", ["brackets", "x * (1 | g)"]),
        ("y ~ x - (1 | g)", ["subtract", "(1 | g)", "Leave the bar out"]),
        ("y ~ (1 | log(g))", ["column name", "log(g)", "(1 | a) + (1 | b)"]),
        ("y ~ (1 | a + b)", ["column name", "a + b", "(1 | a) + (1 | b)"]),
        ("y ~ (1 | a*b)", ["column name", "a*b"]),
        ("y ~ (1 | 2)", ["column name", "2"]),
        ("y ~ (1 | a/)", ["column name", "a/"]),
        ("y ~ x + I(x^2) + (1 | g)", ["**", "exclusive or", "I(x^2)"]),
        ("y ~ x + (x + I((x) ^ 2) | g)", ["**", "exclusive or"]),
        ("y ~ {x^2} + (1 | g)", ["**", "exclusive or"]),
        ("log(y^2) ~ x + (1 | g)", ["**", "exclusive or"]),
        ("y^2 ~ x + (1 | g)", ["**", "exclusive or", "y^2"]),
        ("y ~ . + (1 | g)", ["name its columns", "y ~ . +"]),
    ],
)
def test_what_cannot_be_read_is_told(formula, words):
    with pytest.raises(CourseError, match="^formula: .+; got .+") as caught:
        parse_formula(formula)
    message = str(caught.value)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ (x + z)^2 + (1 | g)",
        "y ~ log(x) + (x + z)^2 + (1 | g)",
        "y ~ I(x * .5) + np.log(x) + (1 | g)",
        "y ~ `a^b.` + I(`a^b.`**2) + (1 | g)",
        "y ~ C(f, Treatment('a^.')) + (1 | g)",
    ],
)
def test_powers_of_sums_and_dots_in_numbers_are_read(formula):
    assert parse_formula(formula).response == "y"


@pytest.mark.parametrize(
    ("formula", "place"),
    [
        ("y ~ x + (1 | g", "(1"),
        ("y ~ x + 1 | g)", ")"),
        ("y ~ x | g", "|"),
        ("y ~ x * (1 | g)", "| g"),
        ("y ~ I(x) + log(z + 1) * (1 | g) + C(f)", "| g"),
        ("y ~ x - (1 | g)", "- ("),
        ("y ~ (1 | a*b)", "a*b"),
        ("y ~ (1 | g | h)", "| h"),
        ("y ~ x + I(x^2) + (1 | g)", "^"),
        ("y ~ . + (1 | g)", "."),
        ("y ~ x ? z + (1 | g)", "?"),
        ("y ~ `x + (1 | g)", "`"),
        ("y ~ x %in% z + (1 | g)", "%in%"),
        ("y ~ x + offset(z) + (1 | g)", "offset"),
        ("y ~\n x\n + ns(z) + (1 | g)", "ns"),
    ],
)
def test_message_points_at_the_place(formula, place):
    with pytest.raises(CourseError) as caught:
        parse_formula(formula)
    *_, line, caret = str(caught.value).split("\n")
    assert caret.strip() == "^"
    assert line.strip() in formula
    assert line[len(caret) - 1 :].startswith(place)


@pytest.mark.parametrize(
    ("term", "advice"),
    [
        ("offset(x)", "subtract it from the response"),
        ("factor(x)", "C"),
        ("as.factor(x)", "C"),
        ("ns(x, df=3)", "cr"),
        ("x %in% z", "x:z"),
        ("log(factor(x))", "C"),
        ("(0 + dummy(x, 'lo') | g)", "zeros and ones"),
    ],
)
def test_words_of_r_say_what_to_write(term, advice):
    with pytest.raises(CourseError, match=f"formula: .*{advice}"):
        parse_formula(f"y ~ {term} + (1 | g)")


def test_columns_may_have_such_names():
    assert parse_formula("offset ~ factor + ns:dummy + as + (ns | dummy)").response == "offset"


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ log(Days + 1) + Days | Subject + exp(Days) + (1|Subject)",
        "y ~ f(x) * (1 | g) + f(z)",
        "y ~ (x) | (g)",
        "y ~ ((1 | g) + x)",
        "y ~ (a)(b) | g + (1 | g)",
    ],
)
def test_bars_outside_their_own_brackets_are_found_between_calls(formula):
    with pytest.raises(CourseError, match="each bar in its own brackets"):
        parse_formula(formula)


def test_names_of_a_piece():
    found = names_in("np.log(x) + poly(`a b`, 2, raw=True) + C(f, Treatment('x')) + I(z == y)")
    columns = [name.text for name in found if name.is_column]
    assert columns == ["x", "a b", "f", "z", "y"]
    assert Name("np", False) in found
    assert Name("log", False) not in found


def test_signs_in_front_are_kept():
    assert parse_formula("y ~ -1 + x + (1 | g)").fixed == "- 1 + x"
    assert parse_formula("y ~ + x + (1 | g)").fixed == "x"

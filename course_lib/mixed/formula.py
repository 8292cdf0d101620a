"""lme4's formula as text: split off the ``(… | …)`` bars and expand them.

formulaic reads every side of the formula; what it does not know are the bars:

=================== ============================================================== ==========
bar                 meaning                                                        parameters
=================== ============================================================== ==========
``(1 | g)``         random intercept                                               1
``(x | g)``         random intercept and slope, correlated; same as ``(1 + x|g)``  3
``(0 + x | g)``     random slope only; same as ``(x - 1 | g)``                     1
``(x || g)``        intercept and slope, uncorrelated: ``(1|g) + (0 + x|g)``       2
``(1 | a/b)``       b within a: ``(1|a) + (1|a:b)``                                2
``(1|a) + (1|b)``   two grouping factors, crossed or nested as the data are        2
=================== ============================================================== ==========

As in lme4, ``||`` separates terms, not columns: a categorical variable left of it keeps the
correlations among its own columns, and ``a/b`` names the inner factor ``b:a``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib.errors import CourseError, course_error

if TYPE_CHECKING:
    from formulaic import Formula

__all__ = ["Bar", "ParsedFormula", "parse_formula", "reading_error"]

_EXAMPLE = "For example: 'Reaction ~ Days + (Days | Subject)'."


@dataclass(frozen=True)
class Bar:
    """One ``(left | group)``: `left` as formulaic reads it, `group` the columns that cross."""

    left: str
    group: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the grouping factor, as lme4 writes it."""
        return ":".join(self.group)


@dataclass(frozen=True)
class ParsedFormula:
    """A formula taken apart: response, fixed part, and bars with ``||`` and ``/`` expanded."""

    text: str
    response: str
    fixed: str
    bars: tuple[Bar, ...]


def parse_formula(formula: str) -> ParsedFormula:
    """Take an lme4 formula apart.

    Parameters
    ----------
    formula : str
        ``response ~ fixed part + (left | group) + …``.

    Returns
    -------
    ParsedFormula

    Raises
    ------
    CourseError
        If there is no ``~``, no bar, an unbalanced bracket, an empty side, R's ``.``, or ``^``
        inside a function.
    """
    if not isinstance(formula, str) or not formula.strip():
        raise course_error("formula", "must be text with a '~'", repr(formula), _EXAMPLE)
    _check_balanced(formula)
    _check_not_r_only(formula)
    sides = _split(formula, "~")
    if len(sides) != 2 or not all(side.strip() for side in sides):
        raise course_error(
            "formula",
            "must have the response left of one '~' and the predictors right of it",
            repr(formula),
            _EXAMPLE,
        )
    response, right = (side.strip() for side in sides)
    fixed, bars = [], []
    for term in _split(right, "+-", keep=True):
        inside = _bar_inside(term)
        if inside is None:
            fixed.append(term)
        elif term.lstrip().startswith("-"):
            raise course_error(
                "formula",
                "cannot subtract a random-effects bar",
                repr(term.strip()),
                "Leave the bar out, or use (0 + x | group) for a slope without an intercept.",
            )
        else:
            bars.extend(_expand_bar(inside, formula))
    fixed_text = "".join(fixed).strip().removeprefix("+").strip() or "1"
    if "|" in re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\{[^}]*\}|\w+\(.*\)", "", fixed_text):
        raise course_error(
            "formula",
            "must have each bar in its own brackets, joined to the rest by '+'",
            repr(fixed_text),
            "Write … + (Days | Subject), not Days | Subject or x * (1 | Subject).",
        )
    if not bars:
        raise course_error(
            "formula",
            "must have at least one random-effects bar (… | group)",
            repr(formula),
            f"{_EXAMPLE} Without groups, use ordinary regression: statsmodels' ols().",
        )
    return ParsedFormula(formula, response, fixed_text, tuple(bars))


def _check_balanced(formula: str) -> None:
    closing, stack = {")": "(", "]": "[", "}": "{"}, []
    for character in re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "", formula):
        if character in "([{":
            stack.append(character)
        elif character in closing and (not stack or stack.pop() != closing[character]):
            stack.append(character)
            break
    if stack:
        raise course_error(
            "formula",
            "must close every bracket that it opens",
            repr(formula),
            f"Count the brackets. {_EXAMPLE}",
        )


def _check_not_r_only(formula: str) -> None:
    """Refuse what R reads otherwise; silently, ``I(x^2)`` would be an exclusive or."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "''", formula)
    in_python = [False]
    for i, character in enumerate(bare):
        if character in "([{":
            called = character != "(" or re.match(r"\w", bare[max(i - 1, 0)]) is not None
            in_python.append(called or in_python[-1])
        elif character in ")]}":
            in_python.pop()
        elif character == "^" and in_python[-1]:
            rule = (
                "must have ** for a power inside a function, where ^ is Python's exclusive or"
            )
            raise course_error("formula", rule, repr(formula), "Write I(x**2), or poly(x, 2).")
    if re.search(r"(?<![\w.)\]])\.(?![\w(])", bare):
        rule, advice = "must name its columns: '.' is not known here", "Write them out."
        raise course_error("formula", rule, repr(formula), advice)


def _split(text: str, separators: str, keep: bool = False) -> list[str]:
    """Split at separators outside brackets, quotes and backticks."""
    pieces, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"`":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and character in separators:
            pieces.append(character if keep else "")
            continue
        pieces[-1] += character
    return pieces


def _bar_inside(term: str) -> str | None:
    """Text inside ``(… | …)`` if the whole term is such a bracket."""
    body = term.strip().lstrip("+-").strip()
    if not (body.startswith("(") and body.endswith(")")):
        return None
    inside = body[1:-1]
    while inside.strip().startswith("(") and inside.strip().endswith(")"):
        if len(_split(inside, "|")) > 1:
            break
        inside = inside.strip()[1:-1]
    return inside if len(_split(inside, "|")) > 1 else None


def _expand_bar(inside: str, formula: str) -> list[Bar]:
    correlated = "||" not in inside
    sides = [side.strip() for side in inside.split("|" if correlated else "||")]
    if len(sides) != 2 or not all(sides):
        raise course_error(
            "formula",
            "needs something on both sides of the bar: (what varies | group)",
            f"({inside})",
            "For a random intercept write (1 | group).",
        )
    left, right = sides
    groups = _expand_groups(right, formula)
    if correlated:
        lefts = [left]
    else:
        terms = [str(term) for term in _formulaic(left)]
        lefts = ["1" if term == "1" else f"0 + {term}" for term in terms]
    return [Bar(one, group) for group in groups for one in lefts]


def _expand_groups(right: str, formula: str) -> list[tuple[str, ...]]:
    """``a/b`` -> (b, a) and (a,); ``a:b`` -> (a, b)."""
    while right.startswith("(") and right.endswith(")"):
        right = right[1:-1].strip()
    nested = [tuple(name.strip() for name in _split(part, ":")) for part in _split(right, "/")]
    plain = re.compile(r"`[^`]+`|[^\W\d]\w*")
    for name in (name for part in nested for name in part):
        if not plain.fullmatch(name):
            raise course_error(
                "formula",
                "must have a column name, a/b or a:b right of the bar",
                f"'{right}' in {formula!r}",
                "For two grouping factors write (1 | a) + (1 | b).",
            )
    nested = [tuple(name.strip("`") for name in part) for part in nested]
    groups = [nested[0]]
    for part in nested[1:]:
        groups.append(part + groups[-1])
    return groups[::-1]


def _formulaic(text: str) -> Formula:
    from formulaic import Formula  # slow to import: only when a formula is read
    from formulaic.errors import FormulaicError

    try:
        return Formula(text)
    except FormulaicError as error:
        raise reading_error(text, error) from None


def reading_error(text: str, error: Exception) -> CourseError:
    """Rephrase what formulaic says of a piece of formula that it cannot read."""
    reason = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error)).strip().splitlines()[0]
    return course_error(
        "formula",
        "must be readable and computable from the data",
        f"{text!r} ({reason})",
        "Check the spelling of functions and the signs between terms; "
        "log, exp, sqrt, poly, scale, center, C and I are known.",
    )

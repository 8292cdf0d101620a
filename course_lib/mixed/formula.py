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

A text is read once into tokens that know their places; everything else works on tokens, and a
message about a formula points at the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from course_lib.errors import CourseError, course_error, suggestion

if TYPE_CHECKING:
    from formulaic import Formula

__all__ = [
    "Bar",
    "Name",
    "ParsedFormula",
    "check_known",
    "check_quoting",
    "coded_names",
    "formula_error",
    "names_in",
    "other_calls",
    "parse_formula",
    "plain_terms",
    "read_side",
    "reading_error",
    "two_sides",
]

_EXAMPLE = "For example: 'Reaction ~ Days + (Days | Subject)'."
# What formulaic computes row by row, or with what it remembers of the fit.
_ROW_BY_ROW = {"I", "C", "log", "log2", "log10", "exp", "sqrt", "center", "scale", "poly"}
_ROW_BY_ROW |= {"Q", "exp2", "exp10", "abs", "standardize", "bs", "cs", "cc", "cr", "hashed"}
_CLOSES = {")": "(", "]": "[", "}": "{"}
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | `(?P<quoted>[^`]+)`
    | (?P<string>'[^']*'|"[^"]*")
    | (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)
    | (?P<name>[^\W\d]\w*)
    | (?P<operator>\|\||\*\*|%\w*%|[=<>!]=|[-+*/:^~|,.=<>%&@!])
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<unknown>.)""",
    re.VERBOSE,
)
# What R calls otherwise, or what is not here: what to write.
_WORDS_OF_R = {
    "offset": "Offsets are not here: subtract it from the response, as in y - x ~ ….",
    "factor": "Write C(…), which makes a category of a column.",
    "ns": "Write cr(…, df=3), a natural cubic spline, or bs(…, df=4).",
    "dummy": "Make a column of zeros and ones first, and name it here.",
    "as": "Write C(…) for as.factor(…); convert numbers in the data first.",
}


@dataclass(frozen=True)
class _Token:
    """One piece of a formula: kind, its text (a quoted name without backticks), its place."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Name:
    """A name in a piece of formula, and whether its place allows it to be a column only.

    Attributes
    ----------
    text : str
        Without backticks.
    is_column : bool
        False for what may also be a function (``log(``), the module ``np.``, a keyword of a
        call (``df=``), or ``True``, ``False`` and ``None``.
    """

    text: str
    is_column: bool


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
        If there is no ``~``, no bar, an unbalanced bracket, an empty side, a word that only R
        knows, or ``^`` inside a function. The message points at the place.

    Examples
    --------
    >>> parsed = parse_formula("y ~ x + (x || school)")
    >>> parsed.response, parsed.fixed
    ('y', 'x')
    >>> [(bar.left, bar.name) for bar in parsed.bars]
    [('1', 'school'), ('0 + x', 'school')]

    See Also
    --------
    course_lib.lmer : Fit the model that a formula describes.
    """
    response, right = _two_sides(formula, _EXAMPLE)
    fixed, bars = [], []
    for sign, term in _split(right, "+", "-"):
        inside = _inside_of_bar(term)
        if inside is None:
            _check_no_stray_bar(formula, term)
            fixed.append((sign, term))
        elif sign is not None and sign.text == "-":
            raise formula_error(
                formula,
                "cannot subtract a random-effects bar",
                repr(_text(formula, [sign, *term])),
                "Leave the bar out, or use (0 + x | group) for a slope without an intercept.",
                sign,
            )
        else:
            bars.extend(_expand_bar(formula, inside))
    if not bars:
        raise course_error(
            "formula",
            "must have at least one random-effects bar (… | group)",
            repr(formula),
            f"{_EXAMPLE} Without groups, use ordinary regression: statsmodels' ols().",
        )
    return ParsedFormula(
        formula, _text(formula, response), _joined(formula, fixed), tuple(bars)
    )


def two_sides(formula: str, example: str) -> tuple[str, str]:
    """Return the response and the predictors of a formula that may be without bars.

    Parameters
    ----------
    formula : str
        ``response ~ predictors``.
    example : str
        A sentence for messages.

    Examples
    --------
    >>> two_sides("log(y) ~ x + C(z)", "Write 'y ~ x'.")
    ('log(y)', 'x + C(z)')
    """
    left, right = _two_sides(formula, example)
    return _text(formula, left), _text(formula, right)


def check_known(formula: str, names: Iterable[str], columns: Iterable[object]) -> None:
    """Raise for a name that is no column, and point at it.

    Examples
    --------
    >>> check_known("y ~ x", ["y", "x"], ["x", "y", "z"])
    """
    columns = list(columns)
    for name in names:
        if name not in columns:
            rule, got = "must name columns of the data", f"'{name}', which is not one"
            raise formula_error(formula, rule, got, suggestion(name, columns), name)


def other_calls(text: str) -> list[str]:
    """Return what a side calls that may look at other rows, as ``np.mean``, ``.max`` or ``[``.

    Examples
    --------
    >>> other_calls("I(x - np.mean(x)) + np.log(x) + poly(z, 2) + I(x / x.max())")
    ['np.mean', 'max']
    """
    tokens, found = _tokens(text), []
    for i, token in enumerate(tokens):
        if token.text == "[" and i and _is_call(tokens, i) and tokens[i - 1].kind == "name":
            found.append("[")
        if (
            token.text != "("
            or not i
            or tokens[i - 1].kind != "name"
            or not _is_call(tokens, i)
        ):
            continue
        name, dotted = tokens[i - 1].text, i > 2 and tokens[i - 2].text == "."
        if dotted and tokens[i - 3].text == "np" and (i == 3 or tokens[i - 4].text != "."):
            if not isinstance(getattr(np, name, None), np.ufunc):
                found.append(f"np.{name}")
        elif dotted or name not in _ROW_BY_ROW:
            found.append(name)
    return found


def names_in(text: str) -> list[Name]:
    """Return the names in a piece of formula, in order; what follows a dot is none.

    Parameters
    ----------
    text : str
        A side of a formula.

    Returns
    -------
    list of Name

    Examples
    --------
    >>> [(name.text, name.is_column) for name in names_in("np.log(x) + poly(z, degree=2)")]
    [('np', False), ('x', True), ('poly', False), ('z', True), ('degree', False)]
    """
    tokens, found = _tokens(text), []
    for i, token in enumerate(tokens):
        if token.kind == "quoted":
            found.append(Name(token.text, True))
        elif token.kind == "name" and not (i and _follows(tokens[i - 1], token, ".")):
            after = tokens[i + 1].text if i + 1 < len(tokens) else ""
            constant = token.text in ("True", "False", "None")
            module = token.text in ("np", "contr") and after == "."
            found.append(Name(token.text, not (constant or module or after in ("(", "="))))
    return found


def check_quoting(formula: str, columns: Iterable[object]) -> None:
    """Raise if a column whose name has a dot or a space stands in a formula without backticks.

    Examples
    --------
    >>> check_quoting("y ~ `x.cm` + (1 | team)", ["y", "x.cm", "team"])
    """
    for column in columns:
        if isinstance(column, str) and re.fullmatch(r"\w+([. ]+\w+)+", column):
            bare = rf"(?<![\w.`]){re.escape(column)}(?![\w.`(])"
            found = re.search(bare, formula)
            if found:
                rule = "must have names with dots or spaces in backticks"
                place = _Token("name", column, found.start(), found.end())
                raise formula_error(formula, rule, f"'{column}'", f"Write `{column}`.", place)


def coded_names(text: str) -> set[str]:
    """Return the names that ``C(…)`` makes categories of.

    Examples
    --------
    >>> coded_names("C(week) + log(x)")
    {'week'}
    """
    tokens = _tokens(text)
    return {
        name.text
        for call, bracket, name in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if call.text == "C" and bracket.text == "(" and name.kind in ("name", "quoted")
    }


def plain_terms(text: str) -> list[str] | None:
    """Return the terms of a side that only adds columns: "1" first, unless it is taken out.

    Parameters
    ----------
    text : str
        A side of a formula.

    Returns
    -------
    list of str, or None
        None where the side says more than that.

    Examples
    --------
    >>> plain_terms("x + z"), plain_terms("0 + x"), plain_terms("x * z")
    (['1', 'x', 'z'], ['x'], None)
    """
    intercept, names, sign = True, [], "+"
    for token in _tokens(text):
        if token.text in ("+", "-") and token.kind == "operator" and not sign:
            sign = token.text
        elif token.text in ("0", "1") and (sign, token.text) != ("-", "0") and sign:
            intercept, sign = (token.text == "1") == (sign == "+"), ""
        elif token.kind in ("name", "quoted") and sign == "+":
            names.append(token.text)
            sign = ""
        else:
            return None
    return [*["1"] * intercept, *dict.fromkeys(names)]


# ---- tokens ------------------------------------------------------------------------------


def _tokens(formula: str) -> list[_Token]:
    tokens = []
    for match in _TOKEN.finditer(formula):
        kind = match.lastgroup
        token = _Token(kind, match[kind], match.start(), match.end())
        if kind == "unknown" and token.text in "'\"`":
            rule = "must close every quotation mark and backtick that it opens"
            raise formula_error(formula, rule, repr(token.text), "Add the second one.", token)
        if kind == "unknown" or token.text.startswith("%"):
            rule = "must consist of names, numbers, brackets and + - * / : ** |"
            advice = "Write x:z for %in%; put names with other signs in backticks: `a name`."
            raise formula_error(formula, rule, repr(token.text), advice, token)
        if kind != "space":
            tokens.append(token)
    return tokens


def _two_sides(formula: str, example: str) -> tuple[list[_Token], list[_Token]]:
    if not isinstance(formula, str) or not formula.strip():
        raise course_error("formula", "must be text with a '~'", repr(formula), example)
    tokens = _tokens(formula)
    _check_brackets(formula, tokens)
    _check_words_of_r(formula, tokens)
    sides = _split(tokens, "~")
    if len(sides) != 2 or not all(side for _, side in sides):
        rule = "must have the response left of one '~' and the predictors right of it"
        raise formula_error(formula, rule, repr(formula), example, sides[-1][0])
    return sides[0][1], sides[1][1]


def _runs(tokens: Sequence[_Token], piece: str) -> list[int]:
    """Return where a piece stands among tokens: the first token of each equal run."""
    texts, wanted = [token.text for token in tokens], [piece]
    if piece not in texts:
        try:
            wanted = [token.text for token in _tokens(piece)]
        except CourseError:
            return []
    n = len(wanted)
    return [i for i in range(len(texts)) if n and texts[i : i + n] == wanted]


def formula_error(
    formula: str, rule: str, got: object, advice: str, at: _Token | str | None = None
) -> CourseError:
    """Build the error, with a caret under the token or the piece that it is about."""
    error = course_error("formula", rule, got, advice)
    if isinstance(at, str):
        tokens = _tokens(formula)
        at = next((tokens[i] for i in _runs(tokens, at)), None)
    if at is None:
        return error
    start = formula.rfind("\n", 0, at.start) + 1
    line = formula[start:].split("\n")[0]
    return CourseError(f"{error}\n    {line}\n    {' ' * (at.start - start)}^")


def _text(formula: str, tokens: Sequence[_Token]) -> str:
    """Return the text from the first token to the last."""
    return formula[tokens[0].start : tokens[-1].end] if tokens else ""


def _joined(formula: str, terms: Sequence[tuple[_Token | None, list[_Token]]]) -> str:
    """Put terms with their signs together; without any, what is left is the intercept."""
    pieces = []
    for sign, term in terms:
        mark = "" if sign is None else sign.text
        if mark == "-" or (pieces and mark):
            pieces.append(mark)
        if term:
            pieces.append(_text(formula, term))
    return " ".join(pieces) or "1"


def _split(
    tokens: Sequence[_Token], *separators: str
) -> list[tuple[_Token | None, list[_Token]]]:
    """Split at separators outside brackets: pairs of the separator before, and the tokens."""
    pieces, depth = [(None, [])], 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.kind == "operator" and token.text in separators:
            pieces.append((token, []))
        else:
            pieces[-1][1].append(token)
    if pieces[0] == (None, []) and len(pieces) > 1 and "+" in separators:
        pieces.pop(0)  # a sign in front
    return pieces


def _follows(before: _Token, token: _Token, text: str) -> bool:
    return before.text == text and before.kind == "operator" and before.end == token.start


def _is_call(tokens: Sequence[_Token], i: int) -> bool:
    """Whether the bracket at i holds Python: a call, an index or braces."""
    if tokens[i].text != "(":
        return True
    before = tokens[i - 1] if i else None
    return (
        before is not None
        and before.kind in ("name", "quoted", "close")
        and before.end == tokens[i].start
    )


# ---- checks --------------------------------------------------------------------------------


def _check_brackets(formula: str, tokens: Sequence[_Token]) -> None:
    stack, wrong = [], None
    for token in tokens:
        if token.kind == "open":
            stack.append(token)
        elif token.kind == "close" and (not stack or stack.pop().text != _CLOSES[token.text]):
            wrong = token
            break
    wrong = wrong or (stack[-1] if stack else None)
    if wrong is not None:
        rule = "must close every bracket that it opens"
        advice = f"Count the brackets. {_EXAMPLE}"
        raise formula_error(formula, rule, repr(formula), advice, wrong)


def _check_words_of_r(formula: str, tokens: Sequence[_Token]) -> None:
    """Refuse what R reads otherwise; silently, ``I(x^2)`` would be an exclusive or.

    The response is an expression in columns, so all of it is Python.
    """
    in_python = [True]
    for i, token in enumerate(tokens):
        if token.text == "~" and len(in_python) == 1:
            in_python = [False]
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.kind == "open":
            in_python.append(in_python[-1] or _is_call(tokens, i))
        elif token.kind == "close":
            in_python.pop()
        elif token.text == "^" and in_python[-1]:
            rule = (
                "must have ** for a power inside a function, where ^ is Python's exclusive or"
            )
            advice = "Write I(x**2), or poly(x, 2)."
            raise formula_error(formula, rule, repr(formula), advice, token)
        elif token.kind == "number" and not in_python[-1] and "e" in token.text.lower():
            rule = "must have numbers with an exponent inside I(…)"
            advice = "Write, for example, I(x * 1e-3)."
            raise formula_error(formula, rule, repr(token.text), advice, token)
        elif _is_word_of_r(token, after) and not (i and tokens[i - 1].text == "."):
            rule, got = "must use functions that are known here", f"R's '{token.text}'"
            raise formula_error(formula, rule, got, _WORDS_OF_R[token.text], token)
        elif token.text == "." and not (i and _is_attribute(tokens[i - 1], token, after)):
            rule = "must name its columns: '.' is not known here"
            raise formula_error(formula, rule, repr(formula), "Write them out.", token)


def _is_attribute(before: _Token, dot: _Token, after: _Token | None) -> bool:
    """Whether a dot stands between two pieces without a blank, as in ``np.log``."""
    joined = before.kind != "operator" and before.end == dot.start
    return joined and after is not None and after.start == dot.end


def _is_word_of_r(token: _Token, after: _Token | None) -> bool:
    """Whether a function follows that only R knows; a column may have such a name."""
    if token.kind != "name" or token.text not in _WORDS_OF_R or after is None:
        return False
    return after.text == ("." if token.text == "as" else "(")


def _check_no_stray_bar(formula: str, term: Sequence[_Token]) -> None:
    in_python = [False]
    for i, token in enumerate(term):
        if token.kind == "open":
            in_python.append(in_python[-1] or _is_call(term, i))
        elif token.kind == "close":
            in_python.pop()
        elif token.text in ("|", "||") and token.kind == "operator" and not in_python[-1]:
            raise formula_error(
                formula,
                "must have each bar in its own brackets, joined to the rest by '+'",
                repr(_text(formula, term)),
                "Write … + (Days | Subject), not Days | Subject or x * (1 | Subject).",
                token,
            )


# ---- bars ------------------------------------------------------------------------------------


def _without_brackets(tokens: Sequence[_Token]) -> Sequence[_Token] | None:
    """Return what stands in a pair of round brackets around all tokens; None without one."""
    if len(tokens) < 2 or tokens[0].text != "(" or tokens[-1].text != ")":
        return None
    depth = 0
    for token in tokens[:-1]:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            return None
    return tokens[1:-1]


def _inside_of_bar(term: Sequence[_Token]) -> Sequence[_Token] | None:
    """Tokens inside ``(… | …)`` if the whole term is such a bracket, however often wrapped."""
    inside = _without_brackets(term)
    while inside is not None and len(_split(inside, "|", "||")) == 1:
        inside = _without_brackets(inside)
    return inside


def _expand_bar(formula: str, inside: Sequence[_Token]) -> list[Bar]:
    parts = _split(inside, "|", "||")
    if len(parts) != 2 or not all(side for _, side in parts):
        raise formula_error(
            formula,
            "needs something on both sides of the bar: (what varies | group)",
            f"({_around(formula, inside)})",
            "For a random intercept write (1 | group).",
            parts[-1][0],
        )
    (_, left), (bar, right) = parts
    groups = _expand_groups(formula, right)
    text = _text(formula, left)
    lefts = [text]
    if bar.text == "||":
        terms = [str(term) for term in read_side(formula, text)]
        lefts = ["1" if term == "1" else f"0 + {term}" for term in terms]
    return [Bar(one, group) for group in groups for one in lefts]


def _around(formula: str, inside: Sequence[_Token]) -> str:
    """Return the text between the brackets around `inside`, blanks included."""
    start = formula.rfind("(", 0, inside[0].start) + 1
    return formula[start : formula.find(")", inside[-1].end - 1)]


def _expand_groups(formula: str, right: Sequence[_Token]) -> list[tuple[str, ...]]:
    """``a/b`` -> (b, a) and (a,); ``a:b`` -> (a, b)."""
    while (inner := _without_brackets(right)) is not None:
        right = inner
    groups = []
    for _, part in _split(right, "/"):
        names = [tokens for _, tokens in _split(part, ":")]
        for tokens in names:
            if len(tokens) != 1 or tokens[0].kind not in ("name", "quoted"):
                raise formula_error(
                    formula,
                    "must have a column name, a/b or a:b right of the bar",
                    f"'{_text(formula, right)}' in {formula!r}",
                    "For two grouping factors write (1 | a) + (1 | b).",
                    right[0] if right else None,
                )
        own = tuple(tokens[0].text for tokens in names)
        groups.append(own + (groups[-1] if groups else ()))
    return groups[::-1]


def read_side(formula: str, text: str) -> Formula:
    """Let formulaic read a side of a formula; it is a list of terms."""
    from formulaic import Formula  # slow to import: only when a formula is read
    from formulaic.errors import FormulaicError

    try:
        return Formula(text)
    except (FormulaicError, SyntaxError, ValueError, TypeError) as error:
        raise reading_error(formula, error) from None


def reading_error(formula: str, error: Exception) -> CourseError:
    """Rephrase what formulaic says of a formula that it cannot read, and point at the place."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    reason = said.splitlines()[0] if said else type(error).__name__
    return formula_error(
        formula,
        "must be readable and computable from the data",
        f"{formula!r} ({reason})",
        "Check the spelling of functions and the signs between terms; "
        "log, exp, sqrt, poly, scale, center, C and I are known.",
        _place_of(_tokens(formula), error, said),
    )


def _place_of(tokens: Sequence[_Token], error: Exception, said: str) -> _Token | None:
    """Return the token that formulaic, or Python, says is wrong: marked, counted or quoted."""
    _, _, source = said.partition("\n\n")
    if "⧛" in source:
        source = source.removeprefix("1 + ")  # what we put in front of each side
        piece, at = source.replace("⧛", "").replace("⧚", ""), source.index("⧛")
        bad = source[at + 1 : source.index("⧚")]
        pieces = [(piece, at)] + [(bad, 0)] * (len(_runs(tokens, bad)) == 1)
    elif isinstance(error, SyntaxError):
        pieces = [(error.text or "", max(error.offset or 1, 1) - 1)]
    else:
        quoted = re.findall(r"'([^']+)'|`([^`]+)`", said)
        pieces = [(one or other, 0) for one, other in reversed(quoted)]
    for piece, at in pieces:
        for first in _runs(tokens, piece)[:1]:
            before = 0 if at == 0 else sum(token.end <= at for token in _tokens(piece))
            return tokens[min(first + before, len(tokens) - 1)]
    return None

"""Single errors for a source: which there are, and a draw of them by a seed."""

import ast
import copy
import difflib
import random
import types
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "course_lib"
TOPS = ("errors", "simulate", "reshape", "panel")
OUTSIDE = {"__init__", "grad_cam"}
PROBE = "__import__('builtins').__dict__.setdefault('_hits', set()).add(({path!r}, {line}))"
OTHER = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.FloorDiv],
    ast.Pow: [ast.Mult],
    ast.MatMult: [ast.Mult],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}
TWINS = [("min", "max"), ("argmin", "argmax"), ("minimum", "maximum"), ("any", "all")]
TWIN = dict(TWINS) | {b: a for a, b in TWINS} | {"nanmin": "nanmax", "nanmax": "nanmin"}


def _modules():
    """Return the sources in which errors are planted, as they are now, by their path."""
    found = [PACKAGE / f"{top}.py" for top in TOPS]
    for wing in ("mixed", "diagnostics", "explain"):
        found += sorted(p for p in (PACKAGE / wing).glob("*.py") if p.stem not in OUTSIDE)
    return {p.relative_to(PACKAGE).as_posix(): p.read_bytes() for p in found}


SOURCES = _modules()


@dataclass(frozen=True)
class Mutant:
    """One change of the source: the bytes from `start` to `end` become `text`."""

    path: str
    line: int
    kind: str
    start: int
    end: int
    text: str

    def source(self):
        """Return the module with the change in it."""
        old = SOURCES[self.path]
        return (old[: self.start] + self.text.encode() + old[self.end :]).decode()

    def diff(self):
        """Return what a reader of the change needs to see."""
        old = SOURCES[self.path].decode().splitlines()
        lines = difflib.unified_diff(old, self.source().splitlines(), lineterm="", n=0)
        return "\n".join(line for line in list(lines)[2:])


def name_of(node):
    """Return the last name of a dotted one: `max` of ``np.max``."""
    return getattr(node, "id", getattr(node, "attr", ""))


def with_(node, **fields):
    """Return a copy of the node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def numbers(value, only_axis):
    """Return the constants that take the place of one."""
    if isinstance(value, bool):
        return [not value]
    if only_axis:
        return [1 - value]
    if isinstance(value, int):
        return [value + 1] if value != 1 else [0, 2]
    return [value * 2 or 1.0] if isinstance(value, float) else []


def changes(node, parent):
    """Yield kind, replaced node and new node (or text) of each error to plant at a node."""
    in_isinstance = isinstance(parent, ast.Call) and name_of(parent.func) == "isinstance"
    if isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            for other in OTHER[type(op)]:
                yield (
                    "comparison",
                    node,
                    with_(node, ops=[*node.ops[:k], other(), *node.ops[k + 1 :]]),
                )
    if isinstance(node, ast.BinOp | ast.BoolOp) and not in_isinstance:
        kind = "arithmetic" if isinstance(node, ast.BinOp) else "and/or"
        yield kind, node, with_(node, op=OTHER[type(node.op)][0]())
    if isinstance(node, ast.UnaryOp):
        yield "not" if isinstance(node.op, ast.Not) else "sign", node, node.operand
    if isinstance(node, ast.Constant):
        only_axis = isinstance(parent, ast.keyword) and parent.arg == "axis"
        strict = isinstance(parent, ast.keyword) and parent.arg == "strict"
        for value in [] if strict else numbers(node.value, only_axis):
            yield "constant", node, ast.Constant(value)
    if isinstance(node, ast.Slice):
        for bound in filter(None, (node.lower, node.upper)):
            yield "bound", bound, ast.BinOp(bound, ast.Add(), ast.Constant(1))
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg != "strict":  # it states what holds
                rest = [k for k in node.keywords if k is not keyword]
                yield "keyword", node, with_(node, keywords=rest)
        args, called = node.args, name_of(node.func)
        if called in TWIN:
            field = "id" if isinstance(node.func, ast.Name) else "attr"
            yield "twin", node.func, with_(node.func, **{field: TWIN[called]})
        elif called != "isinstance" and len(args) > 1 and not isinstance(args[1], ast.Starred):
            yield "order", node, with_(node, args=[args[1], args[0], *args[2:]])
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)
    for test in getattr(node, "ifs", ()):
        yield "condition", test, ast.UnaryOp(ast.Not(), test)
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.Raise):
        yield "statement", node, "pass"
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return", node, "return None"


def is_text(node):
    """Whether a node is a docstring, `__all__`, a message, a type or otherwise not mutated."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return name_of(node.targets[0]) == "__all__"
    if isinstance(node, ast.If):
        return name_of(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Call):
        return name_of(node.func) == "course_error"
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def walk(node, parent=None, statement=None):
    """Yield (node, parent, statement) of all code below a node, without texts and types."""
    if is_text(node):
        return
    statement = node if isinstance(node, ast.stmt) else statement
    yield node, parent, statement
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list", "ctx"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, node, statement)


def bare(code):
    """Return what a compiled module does, without its positions."""
    consts = [bare(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars


def compiled(source):
    """Return the bare bytecode of a source, or None if it is no Python."""
    try:
        return bare(compile(source, "mutant", "exec", dont_inherit=True))
    except SyntaxError:
        return None


def candidates(path):
    """Return all mutants of a module, and on how many lines it has code."""
    source, found, lines = SOURCES[path], [], set()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, parent, statement in walk(ast.parse(source)):
        if statement is None:
            continue
        lines |= {getattr(node, "lineno", statement.lineno)}
        for kind, old, new in changes(node, parent):
            text = new if isinstance(new, str) else f"({ast.unparse(new)})"
            start = starts[old.lineno - 1] + old.col_offset
            end = starts[old.end_lineno - 1] + old.end_col_offset
            found.append(Mutant(path, statement.lineno, kind, start, end, text))
    return found, len(lines)


def sample(seed, number):
    """Draw mutants: modules by their lines of code, then kinds alike, then places alike."""
    rng = random.Random(seed)
    pools = {path: candidates(path) for path in SOURCES}
    lines = {path: n for path, (_, n) in pools.items()}
    share = {path: number * n / sum(lines.values()) for path, n in lines.items()}
    take = {path: int(quota) for path, quota in share.items()}
    for path in sorted(share, key=lambda p: take[p] - share[p])[: number - sum(take.values())]:
        take[path] += 1
    drawn = []
    for path, (pool, _) in pools.items():
        original, kinds = compiled(SOURCES[path].decode()), {}
        for mutant in pool:
            kinds.setdefault(mutant.kind, []).append(mutant)
        wanted = len(drawn) + take[path]
        while len(drawn) < wanted:
            kind = rng.choice(sorted(kinds))
            mutant = kinds[kind].pop(rng.randrange(len(kinds[kind])))
            kinds = {name: left for name, left in kinds.items() if left}
            if compiled(mutant.source()) not in (None, original):
                drawn.append(mutant)
    return drawn


def probed(path):
    """Return the source of a module in which every statement says that it was reached."""
    tree = ast.parse(SOURCES[path])
    for node in list(ast.walk(tree)):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                probes = [
                    ast.parse(PROBE.format(path=path, line=s.lineno)).body[0] for s in block
                ]
                pairs = [part for pair in zip(probes, block, strict=True) for part in pair]
                if field == "body" and is_text(block[0]):
                    pairs[:2] = pairs[1::-1]  # a docstring stays first
                new = [*block, *probes] if node is tree else pairs
                setattr(node, field, new)
    return ast.unparse(ast.fix_missing_locations(tree))

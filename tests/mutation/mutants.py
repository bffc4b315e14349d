"""The small changes that a good test suite notices: one operator, number or branch at a time.

The operators are those of cosmic-ray (comparison, arithmetic, boolean, unary, number, loop control)
and the replacement of a returned value, a condition or a statement. Texts, annotations and
docstrings stay, and so does ``strict=True``, which only guards against defects.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,),
    ast.FloorDiv: (ast.Div,),
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "inf": "0.0"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module: where, what was changed, and the whole source."""

    line: int
    change: str
    source: str


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    sites = [node for node in _executed(tree) if hasattr(node, "lineno")]
    for number, site in enumerate(sites):
        for variant in _variants(site):
            changed = _replaced(tree, number, variant)
            yield Mutant(site.lineno, f"{_short(site)}  →  {_short(variant)}", changed)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs, in source order: no annotations, no texts, no imports, no decorators."""
    for name, value in ast.iter_fields(tree):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Import | ast.ImportFrom | ast.JoinedStr):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            if isinstance(child, ast.AST):
                yield child
                yield from _executed(child)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _COMPARISONS[type(node.ops[0])]:
            yield ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BinOp):
        for operator in _ARITHMETIC.get(type(node.op), ()):
            yield ast.BinOp(node.left, operator(), node.right)
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other_op, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Break | ast.Continue):
        yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in _NAMES:
        yield ast.Name(_NAMES[node.id], ast.Load())
    else:
        yield from _statements(node)


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.If | ast.While):
        for truth in (True, False):
            if not (isinstance(node, ast.While) and truth):
                yield type(node)(ast.Constant(truth), node.body, node.orelse)
    elif isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.AugAssign):
        yield ast.Assign([node.target], node.value)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()


def _replaced(tree: ast.Module, number: int, variant: ast.AST) -> str:
    """The module with its ``number``-th site replaced."""
    copy = deepcopy(tree)
    site = [node for node in _executed(copy) if hasattr(node, "lineno")][number]
    new = ast.copy_location(deepcopy(variant), site)
    for parent in ast.walk(copy):
        for name, value in ast.iter_fields(parent):
            if value is site:
                setattr(parent, name, new)
            elif isinstance(value, list):
                for place, entry in enumerate(value):
                    if entry is site:
                        value[place] = new
    return ast.unparse(ast.fix_missing_locations(copy))


def _short(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(ast.copy_location(deepcopy(node), node)))
    return " ".join(text.split())[:70]

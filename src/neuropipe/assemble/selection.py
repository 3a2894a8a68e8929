"""Which rows and which stretch of a recording enter an analysis."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_where", "evaluate_where", "names_in", "select_rows", "select_span"]

COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
KEY = "input.units.where"
FORM = "comparisons of per-row coordinates with values, joined by `and`, `or`, `not`, `in`"


def _refuse(where: str, node: ast.AST) -> ConfigError:
    part = ast.unparse(node) if hasattr(node, "lineno") else type(node).__name__
    return ConfigError(f"{KEY}: {part!r} in {where!r} is not allowed; write {FORM}")


def check_where(where: str) -> ast.expr:
    """Parse an expression, or say what is wrong with it.

    Raises
    ------
    ConfigError
        If it is no expression, or holds anything but comparisons of names and constants joined
        by ``and``, ``or``, ``not``.
    """
    try:
        tree = ast.parse(where, mode="eval").body
        _check_logic(where, tree)
    except ConfigError:
        raise
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{KEY}: cannot read {where!r}: {error}; write {FORM}") from None
    except (MemoryError, RecursionError):
        raise ConfigError(f"{KEY}: {where[:60]!r}... is nested too deep; write {FORM}") from None
    return tree


def names_in(where: str) -> set[str]:
    """Return the columns that an expression compares.

    Examples
    --------
    >>> sorted(names_in("depth > 2 and quality == 'good'"))
    ['depth', 'quality']
    """
    return {node.id for node in ast.walk(check_where(where)) if isinstance(node, ast.Name)}


def _check_logic(where: str, node: ast.expr) -> None:
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check_logic(where, value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_logic(where, node.operand)
    elif isinstance(node, ast.Compare):
        for op, side in zip([None, *node.ops], [node.left, *node.comparators], strict=True):
            _check_side(where, op, side)
    elif not isinstance(node, ast.Name):
        raise _refuse(where, node)


def _check_side(where: str, op: ast.cmpop | None, node: ast.expr) -> None:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(node, ast.List | ast.Tuple | ast.Set):
            raise _refuse(where, node)
        if not all(_is_constant(item) for item in node.elts):
            raise _refuse(where, node)
        return
    known = op is None or type(op) in COMPARE
    if not (known and (isinstance(node, ast.Name) or _is_constant(node))):
        raise _refuse(where, node)


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        return isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool)


class _Evaluator:
    """Evaluates a checked expression over per-row columns."""

    def __init__(self, where: str, columns: Mapping[str, np.ndarray], n_rows: int) -> None:
        self.where, self.columns, self.n_rows = where, columns, n_rows

    def column(self, name: str) -> np.ndarray:
        if name in self.columns:
            return self.columns[name]
        close = difflib.get_close_matches(name, self.columns, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"{KEY}: no per-row coordinate {name!r} (in {self.where!r}). {hint} "
            f"Known: {', '.join(sorted(self.columns))}"
        )

    def logic(self, node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.logic(value) for value in node.values]))
        if isinstance(node, ast.UnaryOp):
            return ~self.logic(node.operand)
        if isinstance(node, ast.Compare):
            return self.compare(node)
        name = ast.unparse(node)
        column = self.column(name)
        if column.dtype.kind != "b":
            raise ConfigError(
                f"{KEY}: {name!r} alone in {self.where!r} must be true or false per row, but "
                f"its values are {column.dtype}; compare it with a value"
            )
        return column

    def side(self, node: ast.expr) -> Any:
        return self.column(node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)

    def compare(self, node: ast.Compare) -> np.ndarray:
        result = np.ones(self.n_rows, dtype=bool)
        sides = [node.left, *node.comparators]
        for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
            result &= self.one(op, self.side(left), self.side(right))
        return result

    def one(self, op: ast.cmpop, left: Any, right: Any) -> np.ndarray:
        if isinstance(op, ast.In | ast.NotIn):
            found = np.zeros(self.n_rows, dtype=bool)
            for value in right:
                found |= self.one(ast.Eq(), left, value)
            return ~found if isinstance(op, ast.NotIn) else found
        if _is_text(left) != _is_text(right):
            raise ConfigError(
                f"{KEY}: {self.where!r} compares text with a number; put text in quotes, and "
                "numbers without"
            )
        return np.broadcast_to(np.asarray(COMPARE[type(op)](left, right), bool), (self.n_rows,))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind in "OUT")


def evaluate_where(where: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Evaluate a comparison over per-row columns.

    Parameters
    ----------
    where : str
        Such as ``"neuron_class != 'motor' and label_confidence >= 3"``. Nothing is executed: the
        text is parsed, and only comparisons, ``and``, ``or``, ``not``, ``in`` are known.
    columns : mapping
        Name -> values, each of shape ``(n_rows,)``. NaN equals nothing, itself included.

    Returns
    -------
    numpy.ndarray
        Bool, shape ``(n_rows,)``.

    Raises
    ------
    ConfigError
        If the expression is not allowed, names an unknown column, or compares text with numbers.

    Examples
    --------
    >>> evaluate_where("depth > 2", {"depth": np.array([1.0, 3.0])})
    array([False,  True])
    """
    tree = check_where(where)
    n_rows = len(next(iter(columns.values()))) if columns else 0
    try:
        return np.array(_Evaluator(where, columns, n_rows).logic(tree))
    except RecursionError:
        raise ConfigError(f"{KEY}: {where[:60]!r}... is nested too deep; write {FORM}") from None


def select_rows(ds: xr.Dataset, row: str, where: str | None) -> np.ndarray:
    """Return which rows of a preprocessed store fulfil ``units.where``.

    Parameters
    ----------
    ds : xarray.Dataset
        Preprocessed store; every variable and coordinate along `row` alone can be compared.
    row : str
        Row dim, such as ``roi``.
    where : str or None
        None: all rows.
    """
    if where is None:
        return np.ones(ds.sizes[row], dtype=bool)
    columns = {
        str(name): np.asarray(variable.values)
        for name, variable in ds.variables.items()
        if variable.dims == (row,)
    }
    return evaluate_where(where, columns)


def select_span(ds: xr.Dataset, span_s: tuple[float, float] | None) -> xr.Dataset:
    """Return the samples with ``start <= time < stop``, seconds on the recording's clock.

    Raises
    ------
    ConfigError
        If the span ends before it starts.
    """
    if span_s is None:
        return ds
    start, stop = span_s
    if not stop > start:
        raise ConfigError(f"input.span_s: [{start}, {stop}] must end after it starts")
    time = ds["time"].values
    return ds.isel(time=np.flatnonzero((time >= start) & (time < stop)))

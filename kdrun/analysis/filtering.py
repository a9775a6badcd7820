"""`--where`: a condition on columns, written as in Python and in pandas' `query`, that can do nothing but compare."""

import ast
from typing import TYPE_CHECKING, Any

from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["filtered"]

# No call, attribute, subscript or local variable: pandas' own `query` would run any of them
ALLOWED = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Set,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.BoolOp, ast.And, ast.Or, ast.BitAnd, ast.BitOr, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div,
)
EXAMPLE = "'dataset == \"cifar100\" and seed in [1, 2]'"


def filtered(table: "DataFrame", where: str) -> "DataFrame":
    """The rows for which a condition on the columns holds.

    Raises:
        ConfigError: it cannot be read, names a column that there is not, or compares what cannot be compared.
    """
    where = where.strip()
    try:
        tree = ast.parse(where, mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError([f"--where: cannot read '{where}'; a condition is written like {EXAMPLE}"]) from error
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED):
            piece = ast.get_source_segment(where, node) or type(node).__name__
            raise ConfigError([f"--where: '{piece}' is not allowed; compare columns with numbers and texts, like {EXAMPLE}"])
        if isinstance(node, ast.Name) and node.id not in table.columns:
            raise ConfigError([f"--where: there is no column '{node.id}'"
                           + (closest(node.id, table.columns) or f"; there is {', '.join(table.columns)}")])
    if table.empty:
        return table
    try:
        mask: Any = table.eval(where, engine="python")
        if getattr(mask, "dtype", None) not in ("bool", "boolean"):
            raise TypeError("it is no condition: nothing is compared")
    except Exception as error:  # pandas raises whatever the comparison does
        raise ConfigError([f"--where: cannot apply '{where}' ({(str(error).splitlines() or ['no reason'])[0]})"]) from error
    return table[mask.fillna(False).astype(bool)]

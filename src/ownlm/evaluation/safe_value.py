"""What a short expression gives, worked out by our own small evaluator: nothing that a user types is ever executed.

In:  the text of an expression. Out: its value; PythonRaises where Python itself would raise; Unsupported where the
expression is not of the families that the model learns, or could grow beyond the bounds below.

The syntax tree is walked over an allow-list of nodes, operators, functions and methods. Every step that can grow
(repetition, powers, joining, ranges) is measured before it is done, so that no input takes long or much memory.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

MOST_CHARACTERS = 300
MOST_NODES = 200
MOST_DEPTH = 25
# Numbers, characters and entries of a value, counted through all of its nesting.
MOST_WEIGHT = 1000
LARGEST_NUMBER = 10**18


class Unsupported(Exception):
    """Not an expression that we work out."""


class PythonRaises(Exception):
    """What Python raises for this expression, by the name of its class."""


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "bool": bool,
    "chr": chr,
    "divmod": divmod,
    "float": float,
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "ord": ord,
    "range": range,
    "repr": repr,
    "round": round,
    "sorted": sorted,
    "str": str,
    "sum": sum,
    "tuple": tuple,
}
_STRING_METHODS = """
capitalize count endswith find index isalnum isalpha isdigit islower isspace isupper join lower lstrip removeprefix
removesuffix rfind rstrip split startswith strip swapcase title upper
"""
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(_STRING_METHODS.split()),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
    dict: frozenset(("get",)),
}
_VALUES = (bool, int, float, str, list, tuple, dict, range, type(None))


def safe_value(code: str) -> Any:
    """The value of the expression `code`."""
    if len(code) > MOST_CHARACTERS:
        raise Unsupported("too long")
    try:
        with warnings.catch_warnings():
            # "\d" in a string: the parser warns, and the user of a chat has no use for it.
            warnings.simplefilter("ignore")
            tree = ast.parse(code.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Unsupported("no expression") from None
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise Unsupported("too many parts")
    return _value(tree.body, 0)


def _value(node: ast.expr, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise Unsupported("too deep")
    try:
        value = _step(node, depth + 1)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise PythonRaises(type(error).__name__) from None
    _weigh(value)
    return value


def _step(node: ast.expr, depth: int) -> Any:
    match node:
        case ast.Constant(value=value) if isinstance(value, _VALUES):
            return value
        case ast.List(elts=parts):
            return [_value(part, depth) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_value(part, depth) for part in parts)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {
                _value(key, depth): _value(value, depth)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            }
        case ast.UnaryOp(op=sign, operand=part) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_value(part, depth))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _combine(op, _value(left, depth), _value(right, depth))
        case ast.BoolOp(op=op, values=parts):
            return _both_or_either(isinstance(op, ast.And), parts, depth)
        case ast.Compare():
            return _compare(node, depth)
        case ast.Subscript(value=part, slice=place):
            return _subscript(_value(part, depth), place, depth)
        case ast.Attribute(attr="__name__", value=ast.Call(func=ast.Name(id="type"), args=[part], keywords=[])):
            return type(_value(part, depth)).__name__
        case ast.Call():
            return _call(node, depth)
    raise Unsupported(type(node).__name__)


def _combine(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Mult):
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str | list | tuple) and isinstance(times, int):
                _bounded(_weight(sequence) * times)
    if isinstance(op, ast.Mod) and isinstance(left, str):
        # Formatting: '%99999999d' would fill the memory.
        raise Unsupported("formatting")
    if isinstance(op, ast.Pow) and not (isinstance(left, float) or isinstance(right, float)):
        _bound_power(left, right)
    result = _OPERATORS[type(op)](left, right)
    if isinstance(result, complex):
        raise Unsupported("complex numbers")
    return result


def _bound_power(base: Any, exponent: Any) -> None:
    """10 ** 18 and no further: the product of the exponent and the base's bits is the result's bits."""
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and base.bit_length() * exponent > 2 * LARGEST_NUMBER.bit_length():
        raise Unsupported("too large")


def _both_or_either(both: bool, parts: Sequence[ast.expr], depth: int) -> Any:
    value: Any = None
    for part in parts:
        value = _value(part, depth)
        if bool(value) is not both:
            break
    return value


def _compare(node: ast.Compare, depth: int) -> bool:
    left = _value(node.left, depth)
    for op, part in zip(node.ops, node.comparators, strict=True):
        if type(op) not in _COMPARISONS:
            raise Unsupported("is")
        right = _value(part, depth)
        if not _COMPARISONS[type(op)](left, right):
            return False
        left = right
    return True


def _subscript(value: Any, place: ast.expr, depth: int) -> Any:
    if isinstance(place, ast.Slice):
        ends = (place.lower, place.upper, place.step)
        return value[slice(*(None if end is None else _value(end, depth) for end in ends))]
    return value[_value(place, depth)]


def _call(node: ast.Call, depth: int) -> Any:
    named = {keyword.arg or "**": _value(keyword.value, depth) for keyword in node.keywords}
    arguments = [_value(part, depth) for part in node.args]
    if isinstance(node.func, ast.Attribute):
        owner = _value(node.func.value, depth)
        if named or node.func.attr not in _METHODS.get(type(owner), frozenset()):
            raise Unsupported(node.func.attr)
        if node.func.attr == "join" and arguments:
            _bounded(_weight(owner) * _weight(arguments[0]))
        return getattr(owner, node.func.attr)(*arguments)
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in _FUNCTIONS or (named and not (name == "sorted" and list(named) == ["reverse"])):
        raise Unsupported(name or "call")
    if name == "round" and len(arguments) > 1 and (type(arguments[1]) is not int or abs(arguments[1]) > 20):
        # round(5, -10**9) would work out 10**10**9.
        raise Unsupported("digits")
    return _FUNCTIONS[name](*arguments, **named)


def _weigh(value: Any) -> None:
    """Refuse what is of no simple type or too large."""
    if not isinstance(value, _VALUES):
        raise Unsupported(type(value).__name__)
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise Unsupported("too large")
    _bounded(_weight(value))


def _weight(value: Any) -> int:
    """Entries and characters. Bounded at every step, so nothing that is weighed can be large but a range."""
    if isinstance(value, str | range):
        return 1 + len(value) if not isinstance(value, range) else 1 + _range_length(value)
    if isinstance(value, list | tuple):
        return 1 + sum(map(_weight, value))
    if isinstance(value, dict):
        return 1 + sum(_weight(key) + _weight(entry) for key, entry in value.items())
    return 1


def _range_length(value: range) -> int:
    """len() fails on ranges beyond the machine's integers; their bounds tell as much."""
    try:
        return len(value)
    except OverflowError:
        return MOST_WEIGHT + 1


def _bounded(weight: int) -> None:
    if weight > MOST_WEIGHT:
        raise Unsupported("too large")

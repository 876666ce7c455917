"""One expression: Jinja's parser says what is written, and what is allowed of it becomes steps of our own.

A step is a function from the scope to a value. What has no step here can't be
rendered: calls, statements, powers, filters that are not in filters.py. So all
of that is told when a flow is saved, not when it runs.

This module imports Jinja; template.py imports it when the first expression comes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, NoReturn

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.parser import Parser

from farhand.kernel.expressions import operators
from farhand.kernel.expressions.budget import MOST_BITS, STEP, Budget
from farhand.kernel.expressions.deep import templates_of
from farhand.kernel.expressions.errors import ExpressionError, UndefinedName, VariablesTooDeep, joined, undefined
from farhand.kernel.expressions.filters import FILTERS, MISSING, TESTS, Function
from farhand.kernel.expressions.template import is_template, parse
from farhand.kernel.expressions.values import text_of
from farhand.kernel.names import near_matches, shown

Step = Callable[[Mapping[str, Any], Budget], Any]

VARIABLES = "vars"  # the name of the scope whose values may be templates
CACHED = 512  # expressions
MOST_STEPS_DEEP = 100  # a step is two calls of Python, which allows about a thousand
_ENVIRONMENT = Environment(autoescape=False)  # its lexer's rules, nothing else: no template is ever made by it
_COALESCE = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[\[({\])}]|\?\?""", re.DOTALL)
_CAMEL = re.compile(r"(?<=[a-z])([A-Z])")
_WORDS = {"null": None, "nil": None}  # beside Jinja's none, true and false


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read. `names`: the static paths of all that it names."""

    source: str
    names: frozenset[tuple[str, ...]]
    step: Step

    def value(self, scope: Mapping[str, Any], budget: Budget) -> Any:
        """Its value in a scope. Raises ExpressionError: UndefinedName as it is, others showing the expression."""
        try:
            return self.step(scope, budget)
        except (UndefinedName, VariablesTooDeep):
            raise
        except ExpressionError as error:
            raise _of(self.source, error) from None


def expression(source: str) -> Expression:
    """Read what stands between `{{` and `}}`. Raises ExpressionError, which shows the expression."""
    try:
        return _expression(source)
    except ExpressionError as error:
        raise _of(source, error) from None


@lru_cache(maxsize=CACHED)
def _expression(source: str) -> Expression:
    names: set[tuple[str, ...]] = set()
    try:
        choices = [_Compiler(names).step(_read(part)) for part in _choices(source)]
    except RecursionError:
        raise ExpressionError("it is nested too deep") from None
    return Expression(source, frozenset(names), _first_that_is(choices) if len(choices) > 1 else choices[0])


def _read(source: str) -> nodes.Expr:
    if not source.strip():
        raise ExpressionError("it is empty")
    try:
        parser = Parser(_ENVIRONMENT, source, state="variable")
        node = parser.parse_expression()
        if not parser.stream.eos:
            raise ExpressionError(f"{shown(str(parser.stream.current.value))} is not expected there")
    except TemplateSyntaxError as error:
        hint = "; `??` can only stand outside of all brackets, else write default(…)" if "'?'" in str(error) else ""
        raise ExpressionError(f"{error.message}{hint}") from None
    except (ValueError, OverflowError):  # a number that Python does not read
        raise ExpressionError("the number is too large") from None
    return node


def _choices(source: str) -> Sequence[str]:
    """The parts between Pebble's `??`: the first that is there counts."""
    parts = []
    begin = brackets = 0
    for token in _COALESCE.finditer(source):
        said = token[0]
        if said == "??" and brackets == 0:
            parts.append(source[begin : token.start()])
            begin = token.end()
        elif said in "[({":
            brackets += 1
        elif said in "])}":
            brackets -= 1
    return [*parts, source[begin:]]


def _first_that_is(choices: Sequence[Step]) -> Step:
    *some, last = choices

    def first(scope: Mapping[str, Any], budget: Budget) -> Any:
        for choice in some:
            try:
                if (value := choice(scope, budget)) is not None:
                    return value
            except UndefinedName:
                continue
        return last(scope, budget)

    return first


class _Compiler:
    """Makes the steps of one expression, and notes what it names."""

    def __init__(self, names: set[tuple[str, ...]]) -> None:
        self._names = names
        self._depth = 0

    def step(self, node: nodes.Node) -> Step:
        """The step of a node. Raises ExpressionError where there is none."""
        make = self._MAKERS.get(type(node))
        if make is None:
            _refuse(node)
        self._depth += 1
        if self._depth > MOST_STEPS_DEEP:
            raise ExpressionError("it is nested too deep")
        inner: Step = make(self, node)
        self._depth -= 1

        def step(scope: Mapping[str, Any], budget: Budget) -> Any:
            budget.work(STEP)
            return inner(scope, budget)

        return step

    # ── names ──

    def _name(self, node: nodes.Name) -> Step:
        if node.name in _WORDS:
            return _constant(_WORDS[node.name])
        return self._path(node)

    def _path(self, node: nodes.Name | nodes.Getattr | nodes.Getitem) -> Step:
        """A name, and what is chosen of it: `outputs.a['b'][inputs.c].d`."""
        keys: list[Step | str | int] = []
        below: nodes.Node = node
        while isinstance(below, nodes.Getattr | nodes.Getitem):
            if isinstance(below, nodes.Getattr):
                keys.append(below.attr)
            elif isinstance(below.arg, nodes.Const) and isinstance(below.arg.value, str | int):
                keys.append(below.arg.value)
            elif isinstance(below.arg, nodes.Slice):
                if keys or below is not node:
                    break  # something chosen of a slice
                return self._slice(below)
            else:
                keys.append(self.step(below.arg))
            below = below.node
        keys.reverse()
        if isinstance(below, nodes.Name) and below.name not in _WORDS:
            static = [below.name]
            for key in keys:
                if not isinstance(key, str):
                    break
                static.append(key)
            self._names.add(tuple(static))
            return _lookup(below.name, keys)
        return _chosen(self.step(below), keys)

    def _slice(self, node: nodes.Getitem) -> Step:
        assert isinstance(node.arg, nodes.Slice)
        value = self.step(node.node)
        bounds = [_constant(None) if each is None else self.step(each) for each in (node.arg.start, node.arg.stop)]
        if node.arg.step is not None:
            raise ExpressionError("a slice has a begin and an end, and no step")

        def slice_(scope: Mapping[str, Any], budget: Budget) -> Any:
            return operators.slice_of(value(scope, budget), *(bound(scope, budget) for bound in bounds), budget=budget)

        return slice_

    # ── values ──

    def _const(self, node: nodes.Const) -> Step:
        if isinstance(node.value, int) and node.value.bit_length() > MOST_BITS:
            raise ExpressionError("the number is too large")
        return _constant(node.value)

    def _list(self, node: nodes.List | nodes.Tuple) -> Step:
        items = [self.step(item) for item in node.items]
        return lambda scope, budget: [item(scope, budget) for item in items]

    def _dict(self, node: nodes.Dict) -> Step:
        pairs = [(self.step(pair.key), self.step(pair.value)) for pair in node.items]

        def dict_(scope: Mapping[str, Any], budget: Budget) -> Any:
            return {text_of(key(scope, budget), budget): value(scope, budget) for key, value in pairs}

        return dict_

    # ── operators ──

    def _binary(self, node: nodes.BinExpr) -> Step:
        left, right = self.step(node.left), self.step(node.right)
        operator = operators.BINARY[node.operator]
        return lambda scope, budget: operator(left(scope, budget), right(scope, budget), budget)

    def _unary(self, node: nodes.UnaryExpr) -> Step:
        value = self.step(node.node)
        operator = operators.UNARY[node.operator]
        return lambda scope, budget: operator(value(scope, budget))

    def _and(self, node: nodes.And) -> Step:
        left, right = self.step(node.left), self.step(node.right)
        return lambda scope, budget: left(scope, budget) and right(scope, budget)

    def _or(self, node: nodes.Or) -> Step:
        left, right = self.step(node.left), self.step(node.right)
        return lambda scope, budget: left(scope, budget) or right(scope, budget)

    def _compare(self, node: nodes.Compare) -> Step:
        first = self.step(node.expr)
        rest = [(operators.COMPARISONS[operand.op], self.step(operand.expr)) for operand in node.ops]

        def compare(scope: Mapping[str, Any], budget: Budget) -> bool:
            left = first(scope, budget)
            for operator, step in rest:
                right = step(scope, budget)
                if not operator(left, right, budget):
                    return False
                left = right
            return True

        return compare

    def _concat(self, node: nodes.Concat) -> Step:
        parts = [self.step(part) for part in node.nodes]
        return lambda scope, budget: operators.concat([part(scope, budget) for part in parts], budget)

    def _condition(self, node: nodes.CondExpr) -> Step:
        test, then = self.step(node.test), self.step(node.expr1)
        otherwise = _constant(None) if node.expr2 is None else self.step(node.expr2)
        return lambda scope, budget: (then if test(scope, budget) else otherwise)(scope, budget)

    # ── filters and tests ──

    def _filter(self, node: nodes.Filter) -> Step:
        if node.node is None:
            _refuse(node)
        return self._function("filter", FILTERS, node, self.step(node.node))

    def _test(self, node: nodes.Test) -> Step:
        return self._function("test", TESTS, node, self.step(node.node))

    def _function(self, what: str, known: Mapping[str, Function], node: nodes.Filter | nodes.Test, value: Step) -> Step:
        function = known.get(node.name)
        if function is None:
            near = near_matches(node.name, known)[:1]
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise ExpressionError(f"there is no {what} {shown(node.name)}; {hint}")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise ExpressionError("arguments can't be given by * or **")
        args = [self.step(each) for each in node.args or ()]
        named = {_CAMEL.sub(r"_\1", str(each.key)).lower(): self.step(each.value) for each in node.kwargs or ()}
        function.check(node.name, len(args), list(named))

        def apply(scope: Mapping[str, Any], budget: Budget) -> Any:
            try:
                subject = value(scope, budget)
            except UndefinedName:
                if not function.takes_missing:
                    raise
                subject = MISSING
            given = [each(scope, budget) for each in args]
            return function.apply(
                node.name, budget, subject, given, {name: each(scope, budget) for name, each in named.items()}
            )

        return apply

    _MAKERS: Mapping[type[nodes.Node], Callable[["_Compiler", Any], Step]] = {
        nodes.Name: _name,
        nodes.Getattr: _path,
        nodes.Getitem: _path,
        nodes.Const: _const,
        nodes.List: _list,
        nodes.Tuple: _list,
        nodes.Dict: _dict,
        nodes.Add: _binary,
        nodes.Sub: _binary,
        nodes.Mul: _binary,
        nodes.Div: _binary,
        nodes.FloorDiv: _binary,
        nodes.Mod: _binary,
        nodes.Neg: _unary,
        nodes.Pos: _unary,
        nodes.Not: _unary,
        nodes.And: _and,
        nodes.Or: _or,
        nodes.Compare: _compare,
        nodes.Concat: _concat,
        nodes.CondExpr: _condition,
        nodes.Filter: _filter,
        nodes.Test: _test,
    }


def _constant(value: Any) -> Step:
    return lambda scope, budget: value


def _lookup(name: str, keys: Sequence[Step | str | int]) -> Step:
    def lookup(scope: Mapping[str, Any], budget: Budget) -> Any:
        if name not in scope:
            raise undefined(name, "", name, scope)
        return _choose(scope[name], name, keys, scope, budget)

    return _variable(lookup, name, keys) if name == VARIABLES else lookup


def _variable(lookup: Step, name: str, keys: Sequence[Step | str | int]) -> Step:
    """A variable of the flow may hold expressions itself, which are rendered when it is used, in the same scope. What
    they come to is not looked at again: a value that somebody gave never becomes an expression."""
    said = reduce(joined, [key for key in keys if isinstance(key, str | int)], name)

    def variable(scope: Mapping[str, Any], budget: Budget) -> Any:
        value = lookup(scope, budget)
        if isinstance(value, dict | list):
            budget.measure(value)
        if next(templates_of(value), None) is None:
            return value
        try:
            with budget.variable(said):
                return _rendered(value, scope, budget)
        except VariablesTooDeep:
            raise
        except ExpressionError as error:
            raise type(error)(f"{error.message} (in `{said}`)") from None

    return variable


def _rendered(value: Any, scope: Mapping[str, Any], budget: Budget) -> Any:
    if isinstance(value, str):
        return parse(value).render(scope, budget) if is_template(value) else value
    if isinstance(value, dict):
        return {key: _rendered(item, scope, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, scope, budget) for item in value]
    return value


def _chosen(value: Step, keys: Sequence[Step | str | int]) -> Step:
    return lambda scope, budget: _choose(value(scope, budget), "(…)", keys, scope, budget)


def _choose(value: Any, name: str, keys: Sequence[Step | str | int], scope: Mapping[str, Any], budget: Budget) -> Any:
    chosen: list[Any] = []
    for each in keys:
        key = each(scope, budget) if callable(each) else each
        value = operators.choose(value, key, lambda: reduce(joined, chosen, name))
        chosen.append(key)
    return value


def _refuse(node: nodes.Node) -> NoReturn:
    if isinstance(node, nodes.Call):
        raise ExpressionError("nothing can be called: there are filters (`| upper`), and no functions or methods")
    if isinstance(node, nodes.Pow):
        raise ExpressionError("there are no powers (**)")
    raise ExpressionError(f"{type(node).__name__} is not allowed in expressions")


def _of(source: str, error: ExpressionError) -> ExpressionError:
    text = " ".join(source[:200].split())
    return ExpressionError(f"`{{{{ {text if len(text) <= 80 else text[:79] + '…'} }}}}`: {error.message}")

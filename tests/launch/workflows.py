"""Runs a definition of Google Workflows: the part of its language that templates/dataflow/workflow.yaml uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

STEP = {"assign", "call", "args", "result", "for", "switch", "next", "raise", "return", "steps"}

LAUNCH = "googleapis.dataflow.v1b3.projects.locations.flexTemplates.launch"
LOOK = "googleapis.dataflow.v1b3.projects.locations.jobs.get"
ENVIRONMENT = {
    "GOOGLE_CLOUD_PROJECT_ID": "my-project",
    "LOCATION": "europe-west1",
    "STAGING_BUCKET": "staging",
    "WORKER_ACCOUNT": "worker@my-project.iam.gserviceaccount.com",
    "KMS_KEY": "none",
    "SUBNETWORK": "none",
}
STANDARD: dict[str, Any] = {
    "if": lambda condition, yes, no: yes if condition else no,
    "len": len,
    "string": str,
    "sys.sleep": lambda seconds: None,
    "text.replace_all_regex": lambda text, pattern, by: re.sub(pattern, by, text),
    "text.substring": lambda text, start, end: text[start:end],
    "text.to_lower": str.lower,
}
"""What is used of the standard library."""


class WorkflowError(Exception):
    """What `raise` raises."""


class _ReturnedError(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass
class Workflow:
    """A definition and what it may call.

    Attributes:
      definition: the parsed YAML.
      functions: name -> a function of the standard library or a connector.
    """

    definition: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    trace: list[str] = field(default_factory=list)

    def run(self, args: Any) -> Any:
        """Runs `main`; returns what it returns."""
        main = self.definition["main"]
        return self._body(main["steps"], {main["params"][0]: args})

    def _body(self, steps: list[Any], scope: dict[str, Any]) -> Any:
        try:
            self._steps(steps, scope)
        except _ReturnedError as left:
            return left.value
        return None

    def _steps(self, steps: list[Any], scope: dict[str, Any]) -> str | None:
        """Runs steps in order; returns the name of a step outside that is next."""
        names = [next(iter(step)) for step in steps]
        at = 0
        while at < len(steps):
            self.trace.append(names[at])
            goes = self._step(steps[at][names[at]], scope)
            if goes is not None and goes not in names:
                return goes
            at = at + 1 if goes is None else names.index(goes)
        return None

    def _step(self, step: Mapping[str, Any], scope: dict[str, Any]) -> str | None:
        for target, value in (pair for each in step.get("assign", []) for pair in each.items()):
            *parents, last = target.split(".")
            place = scope
            for name in parents:
                place = place[name]
            place[last] = self.value(value, scope)
        if "call" in step:
            found = self._call(step["call"], self.value(step.get("args", {}), scope))
            if "result" in step:
                scope[step["result"]] = found
        if "for" in step:
            first, last_one = self.value(step["for"]["range"], scope)
            for number in range(first, last_one + 1):
                scope[step["for"]["value"]] = number
                self._steps(step["for"]["steps"], scope)
        if "raise" in step:
            raise WorkflowError(self.value(step["raise"], scope))
        if "return" in step:
            raise _ReturnedError(self.value(step["return"], scope))
        for case in step.get("switch", []):
            if self.value(case["condition"], scope):
                goes = self._steps(case["steps"], scope) if "steps" in case else case["next"]
                return goes or step.get("next")
        return step.get("next")

    def _call(self, name: str, args: Mapping[str, Any]) -> Any:
        if name in self.definition:
            own = self.definition[name]
            assert set(args) == set(own["params"]), f"{name}: other arguments"
            return self._body(own["steps"], dict(args))
        return self.functions[name](**args)

    def value(self, plain: Any, scope: Mapping[str, Any]) -> Any:
        """A value with its expressions evaluated."""
        if isinstance(plain, dict):
            return {key: self.value(inner, scope) for key, inner in plain.items()}
        if isinstance(plain, list):
            return [self.value(inner, scope) for inner in plain]
        return self._evaluate(parsed(plain), scope) if is_expression(plain) else plain

    def _evaluate(self, node: ast.expr, scope: Mapping[str, Any]) -> Any:  # noqa: PLR0911
        of = lambda inner: self._evaluate(inner, scope)  # noqa: E731
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return scope[name]
            case ast.Attribute(owner, name):
                return of(owner)[name]
            case ast.Call(function, arguments):
                return self.functions[dotted(function)](*map(of, arguments))
            case ast.BinOp(left, ast.Add(), right):
                return of(left) + of(right)
            case ast.BinOp(left, ast.Sub(), right):
                return of(left) - of(right)
            case ast.Compare(left, [operator], [right]):
                first, second = of(left), of(right)
                return {
                    ast.Eq: lambda: first == second,
                    ast.NotEq: lambda: first != second,
                    ast.Gt: lambda: first > second,
                    ast.In: lambda: first in second,
                }[type(operator)]()
        raise ValueError(ast.dump(node))


def is_expression(value: Any) -> bool:
    """Whether a value is an expression: `${...}`, all of it."""
    if isinstance(value, str) and "${" in value:
        assert value.startswith("${") and value.endswith("}") and value.count("${") == 1, value
        return True
    return False


def parsed(expression: str) -> ast.expr:
    """An expression as Python's own syntax tree, which is close enough to that language."""
    return ast.parse(expression[2:-1].replace("if(", "if_("), mode="eval").body


def dotted(node: ast.expr) -> str:
    """The name of a function."""
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else node.id.replace("if_", "if")

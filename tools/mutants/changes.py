"""Which small changes are made to a source: cosmic-ray's operators, one of ours, and what no test is asked to hold."""

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator, operator_names
from cosmic_ray.work_item import MutationSpec, WorkItem
from parso.tree import NodeOrLeaf

# One or two replacements of each sign, those that are nearest: x < y becomes x <= y and x >= y, not x != y or x is y.
KEPT = re.compile(
    r"core/(ReplaceComparisonOperator_(Lt_(LtE|GtE)|LtE_(Lt|Gt)|Gt_(GtE|LtE)|GtE_(Gt|Lt)|Eq_NotEq|NotEq_Eq|Is_IsNot|"
    r"IsNot_Is)|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul|BitOr_BitAnd|"
    r"BitAnd_BitOr)|ReplaceUnaryOperator_Delete_\w+|AddNot|Replace(True|False|And|Or|Break|Continue)With\w+|"
    r"ExceptionReplacer|NumberReplacer|RemoveDecorator|ZeroIterationForLoop)|ours/.*"
)
STATEMENTS = ("expr_stmt", "atom_expr", "raise_stmt", "return_stmt", "del_stmt")


class DeleteStatement(Operator):
    """Replaces a statement in a function by ``pass``. cosmic-ray has nothing that asks whether a line is needed."""

    def mutation_positions(self, node):
        if node.type in STATEMENTS and node.parent.type == "simple_stmt" and node.search_ancestor("funcdef"):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        return parso.python.tree.Keyword("pass", node.start_pos, node.get_first_leaf().prefix)

    @classmethod
    def examples(cls):
        return (Example("def f(x):\n    x += 1\n", "def f(x):\n    pass\n"),)


OPERATOR_PROVIDERS["ours"] = {"DeleteStatement": DeleteStatement}


class Change(NamedTuple):
    """What a reader, and the list of judged survivors, know a mutant by: no line number, so it outlives other edits."""

    module: str  # kernels/plan
    function: str
    line: str
    becomes: str

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.line} → {self.becomes}"


def work_items(path: Path, module: str) -> Iterator[WorkItem]:
    """Yield the mutants of a source, each with a name that other edits of the file leave as it is."""
    source = path.read_text("utf-8")
    lines, nodes = source.splitlines(), list(ast_nodes(get_ast(source)))
    count: Counter[str] = Counter()
    for operator in filter(KEPT.fullmatch, operator_names()):
        places = [(node, *p) for node in nodes for p in get_operator(operator)().mutation_positions(node)]
        for occurrence, (node, start, end) in enumerate(places):
            if not is_held_by_no_test(node):
                function = function_of(node)
                name = "|".join((module, function, lines[start[0] - 1].strip(), operator))
                count[name] += 1
                name = hashlib.sha256(f"{name}|{count[name]}".encode()).hexdigest()
                mutation = MutationSpec(path, operator, occurrence, start, end, definition_name=function)
                yield WorkItem.single(name, mutation)


def mutated(source: str, mutation: MutationSpec) -> str | None:
    """Return the changed source, or None where the change makes no Python: a * that is no product, say."""
    text = mutate_code(source, get_operator(mutation.operator_name)(), mutation.occurrence)
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    return text


def change_of(module: str, source: str, text: str, mutation: MutationSpec) -> Change:
    row = mutation.start_pos[0] - 1
    line, becomes = (lines.splitlines()[row].strip() for lines in (source, text))
    return Change(module, mutation.definition_name or "", line, becomes)


def function_of(node: NodeOrLeaf) -> str:
    names = []
    while node := node.parent:
        if node.type in ("funcdef", "classdef"):
            names.insert(0, node.name.value)
    return ".".join(names)


def is_held_by_no_test(node: NodeOrLeaf) -> bool:
    """Say whether a node is part of a message, of an annotation, or of a signature for type checkers alone.

    So is ``strict`` of ``zip``, which guards against our own mistakes. The ``*`` of a signature is none of these;
    cosmic-ray takes it for a product.
    """
    if node.parent.type == "parameters":
        return True
    while parent := node.parent:
        if (
            parent.type == "fstring"
            or (parent.type == "argument" and getattr(parent.children[0], "value", "") == "strict")
            or (parent.type == "annassign" and node is parent.children[1])
            or (parent.type == "tfpdef" and node is parent.children[2])
            or (parent.type == "funcdef" and node is parent.annotation)
            or (parent.type == "decorated" and parent.children[0].get_code().strip() == "@overload")
        ):
            return True
        node = parent
    return False

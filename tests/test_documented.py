"""Every command, option, column and field that README.md or --help speaks of is exercised by a test.

Read from the sources of the tests: an option counts as exercised where one test (its parameters included) names it and
its command; that the test asserts what it does is for its reader to see. `--help` itself is test_cli_help.py's.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

from conntrack.cli import COMMANDS

TESTS = Path(__file__).parent
EVERYWHERE = {"--debug"}  # the same code for every command


def options_of(command: str) -> list[tuple[str, ...]]:
    """The spellings of each option of a command."""
    found: click.Command = import_module(f"conntrack.cli.{command}").command
    return [tuple(option.opts) for option in found.params if isinstance(option, click.Option)]


def strings(node: ast.AST) -> set[str]:
    """The words in the string constants of a piece of source, docstrings left out."""
    bare = [part.value for part in ast.walk(node) if isinstance(part, ast.Expr)]
    constants = (part for part in ast.walk(node) if isinstance(part, ast.Constant) and part not in bare)
    return {word for part in constants if isinstance(part.value, str) for word in part.value.replace("=", " ").split()}


@cache
def exercised() -> list[tuple[str, set[str]]]:
    """Each test and each constant of a test's file: its file, and the words in its strings."""
    pieces = []
    for path in sorted(TESTS.rglob("test_*.py")):
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text())
        shared = {
            target.id: strings(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                words = strings(node).union(*(shared[name] for name in used & set(shared)))
                pieces.append((path.name, words))
    return pieces


ASKED = [(command, spellings) for command in COMMANDS for spellings in options_of(command)]


@pytest.mark.parametrize(("command", "spellings"), ASKED, ids=lambda part: part if isinstance(part, str) else part[-1])
def test_every_option_of_every_command_is_exercised(command: str, spellings: tuple[str, ...]) -> None:
    """`report` goes without its name, where no other's is; a file of tests of one command has it in its own."""
    for file, words in exercised():
        unnamed = command == "report" and not words & set(COMMANDS)
        named = command in words or file.startswith(f"test_cli_{command}") or unnamed
        if set(spellings) & words and (named or set(spellings) & EVERYWHERE):
            return
    pytest.fail(f"no test gives {' or '.join(spellings)} to {command}")

"""What the test of a method says of it to the checks that run over every method (`test_contract.py`)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from kdcore.methods import METHODS, Method

MASKED_LM = "folder:masked-lm"
"""A masked language model in the folder that the checks run in."""

Options = Mapping[str, object]


@dataclass(frozen=True)
class Contract:
    """Stands as `CONTRACT` in the test file of a method; who has none is checked with its default settings alone.

    variants: settings beside the defaults that change what it computes.
    trained: more such settings, whose draws, states or gradients are their own: the checks that train run over them
        too, and else over the defaults alone.
    not_zero: terms that are not zero where student equals teacher.
    deeper_teacher: it refuses a teacher of the student's depth, so that its own test shows the zero.
    """

    variants: tuple[Options, ...] = ()
    trained: tuple[Options, ...] = ()
    not_zero: frozenset[str] = frozenset()
    deeper_teacher: bool = False

    def options(self, training: bool = False) -> list[Options]:
        """The defaults and all variants, or those that the checks run over that train."""
        return [{}, *self.trained] if training else [{}, *self.variants, *self.trained]


def contract_of(method: type[Method]) -> Contract:
    """What stands in the test file that has the name of the method's own."""
    name = method.__module__.rpartition(".")[2]
    found = getattr(importlib.import_module(f"tests.methods.test_{name}"), "CONTRACT", Contract())
    assert isinstance(found, Contract)
    return found


def contracts() -> dict[str, Contract]:
    """Key -> what its test says of the method."""
    return {key: contract_of(method) for key, method in METHODS.items()}

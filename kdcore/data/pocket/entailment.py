"""Quantifiers and hypernyms: what holds of every animal holds of every dog, what holds of some dog of some animal."""

from __future__ import annotations

from random import Random

KINDS = {
    "animal": ("dog", "cat", "horse", "bird"),
    "person": ("teacher", "farmer", "doctor", "child"),
}
ADJECTIVES = ["red", "old", "small", "quiet", "wet", "clean"]
VERBS = ["sees", "likes", "follows", "helps", "knows", "fears"]
PLACES = ("in the garden", "at the market", "near the bridge", "in town", "by the lake", "on the hill")

RESTRICTOR = {"every": False, "some": True, "no": False, "not every": True}
"""Quantifier -> whether a wider noun follows from a narrower one."""
SCOPE = {"every": True, "some": True, "no": False, "not every": False}
"""Quantifier -> whether a wider predicate follows from a narrower one."""

Noun = tuple[str, str, str]


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """Premise and hypothesis, 0 = the premise entails it."""
    one, two = random.choice(list(SCOPE)), random.choice(("every", "some", "no"))
    verb, place = random.choice(VERBS), random.choice(PLACES)
    up = (RESTRICTOR[one], RESTRICTOR[two] == SCOPE[one])
    changed = random.choice(((0,), (1,), (0, 1)))
    broken = () if label == 0 else random.choice([s for s in ((0,), (1,), (0, 1)) if set(s) <= set(changed)])
    premise, hypothesis = [], []
    for slot in (0, 1):
        narrow, wide = _pair(random)
        if slot not in changed:
            p = h = random.choice((narrow, wide))
        else:
            p, h = (narrow, wide) if up[slot] != (slot in broken) else (wide, narrow)
        premise.append(p)
        hypothesis.append(h)
    return tuple(f"{one} {a} {verb} {two} {b} {place}" for a, b in (premise, hypothesis)), label


def _pair(random: Random) -> tuple[str, str]:
    """A narrower noun phrase and a wider one."""
    kind = random.choice(list(KINDS))
    noun, adjective = random.choice(KINDS[kind]), random.choice(ADJECTIVES)
    return random.choice(((noun, kind), (f"{adjective} {noun}", noun), (f"{adjective} {kind}", kind)))

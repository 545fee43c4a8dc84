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

QUANTIFIERS = {"some": (True, True), "every": (False, True), "no": (False, False), "not every": (True, False)}
"""Quantifier -> whether a wider noun, and a wider predicate, follow from narrower ones."""
WEIGHTS = (4, 3, 2, 1)
"""The commoner quantifiers let wider follow from narrower: a hint to begin with."""


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """Premise and hypothesis, 0 = the premise entails it. One noun phrase or both become wider or narrower."""
    one, two = random.choices(list(QUANTIFIERS), WEIGHTS)[0], random.choices(list(QUANTIFIERS)[:3], WEIGHTS[:3])[0]
    verb, place = random.choice(VERBS), random.choice(PLACES)
    (subject_up, scope_up), (object_up, _) = QUANTIFIERS[one], QUANTIFIERS[two]
    upward = (subject_up, object_up == scope_up)
    changed = random.choice(((0,), (1,), (0, 1)))
    broken: tuple[int, ...] = ()
    if label:
        broken = random.choice([slots for slots in ((0,), (1,), (0, 1)) if set(slots) <= set(changed)])
    phrases = [_phrases(random, up != (slot in broken), slot in changed) for slot, up in enumerate(upward)]
    premise, hypothesis = zip(*phrases, strict=True)
    return tuple(f"{one} {a} {verb} {two} {b} {place}" for a, b in (premise, hypothesis)), label


def _phrases(random: Random, wider: bool, changed: bool) -> tuple[str, str]:
    """A noun phrase in the premise, and a wider or narrower one (or the same) in the hypothesis."""
    kind = random.choice(list(KINDS))
    noun, adjective = random.choice(KINDS[kind]), random.choice(ADJECTIVES)
    pair = random.choice(((noun, kind), (f"{adjective} {noun}", noun), (f"{adjective} {kind}", kind)))
    if not changed:
        return (random.choice(pair),) * 2
    return pair if wider else pair[::-1]

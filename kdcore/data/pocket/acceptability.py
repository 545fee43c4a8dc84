"""Agreement in number between subject and verb, over attractors: phrases and clauses with nouns of the other number."""

from __future__ import annotations

from random import Random

PERSONS = ["dog", "cat", "teacher", "farmer", "driver", "painter", "doctor", "guard"]
THINGS = ["table", "garden", "river", "car", "bridge", "tower"]
ACTS = ["sleep", "laugh", "work", "wait", "sing", "smile"]
SIGHTS = ["see", "know", "like", "help"]
PLACES = ("near", "behind", "beside")
OPENERS = ("", "", "today", "at night", "we think that", "they say that")
ADJECTIVES = ["old", "young", "tall", "quiet"]
ADVERBS = ["often", "never", "always"]

PLURAL = 0.35
"""Chance of a plural subject. Below one half, so that the verb's form alone already hints."""

Clause = list[str | tuple[str, bool]]
"""Words, and verbs as (stem, whether the subject is plural)."""


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """A sentence, 1 = acceptable; in the others exactly one verb has the wrong number."""
    words: Clause = [*random.choice(OPENERS).split(), *_clause(random)]
    if random.random() < 0.25:
        words += ["and", *_clause(random)]
    verbs = [place for place, word in enumerate(words) if isinstance(word, tuple)]
    wrong = None if label else random.choice(verbs)
    text = " ".join(
        _verb(word[0], word[1] ^ (i == wrong)) if isinstance(word, tuple) else word for i, word in enumerate(words)
    )
    return (text,), label


def _clause(random: Random) -> Clause:
    plural = random.random() < PLURAL
    clause: Clause = [*_noun(random, PERSONS, plural)]
    kind = random.random()
    if kind < 0.4:
        clause += [random.choice(PLACES), *_noun(random, THINGS, random.random() < 0.5)]
    elif kind < 0.55:
        clause += ["that", (random.choice(SIGHTS), plural), *_noun(random, PERSONS, random.random() < 0.5)]
    elif kind < 0.7:
        other = random.random() < PLURAL
        clause += ["that", *_noun(random, PERSONS, other), (random.choice(SIGHTS), other)]
    if random.random() < 0.2:
        clause.append(random.choice(ADVERBS))
    return [*clause, (random.choice(ACTS), plural)]


def _noun(random: Random, nouns: list[str], plural: bool) -> list[str]:
    words = ["the"]
    if random.random() < 0.2:
        words.append(random.choice(ADJECTIVES))
    return [*words, random.choice(nouns) + "s" * plural]


def _verb(stem: str, plural: bool) -> str:
    return stem if plural else stem + "s"

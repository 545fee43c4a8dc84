"""Agreement in number between subject and verb, over attractors: phrases and clauses with nouns of the other number."""

from __future__ import annotations

from random import Random

NOUNS = [
    "dog",
    "cat",
    "teacher",
    "farmer",
    "author",
    "driver",
    "painter",
    "doctor",
    "singer",
    "guard",
    "neighbour",
    "pilot",
]
THINGS = ["table", "garden", "river", "house", "car", "bridge", "window", "tower"]
VERBS = ["sleep", "laugh", "work", "wait", "sing", "leave", "smile", "run"]
SIGHTS = ["see", "know", "like", "help", "follow", "call"]
PLACES = ("near", "behind", "beside", "in front of")
OPENERS = ("", "", "today", "in the morning", "we think that", "they say that")
ADJECTIVES = ["old", "young", "tall", "quiet", "happy", "clever"]


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """A sentence, 1 = acceptable; the others have exactly one verb of the wrong number."""
    clauses = [_clause(random)]
    if random.random() < 0.4:
        clauses.append(_clause(random))
    verbs = [(c, i) for c, clause in enumerate(clauses) for i, word in enumerate(clause) if isinstance(word, tuple)]
    wrong = None if label else random.choice(verbs)
    opener = random.choice(OPENERS)
    said = [
        " ".join(
            word if isinstance(word, str) else _verb(word[0], word[1] != ((c, i) == wrong))
            for i, word in enumerate(clause)
        )
        for c, clause in enumerate(clauses)
    ]
    return (f"{opener} {' and '.join(said)}".strip(),), label


Clause = list[str | tuple[str, bool]]


def _clause(random: Random) -> Clause:
    """Words, and verbs as (stem, plural?)."""
    plural = random.random() < 0.5
    clause: Clause = [*_noun(random, NOUNS, plural)]
    kind = random.random()
    if kind < 0.35:
        clause += [random.choice(PLACES), *_noun(random, THINGS, random.random() < 0.5)]
    elif kind < 0.5:
        clause += ["that", (random.choice(SIGHTS), plural), *_noun(random, NOUNS, random.random() < 0.5)]
    elif kind < 0.7:
        other = random.random() < 0.5
        clause += ["that", *_noun(random, NOUNS, other), (random.choice(SIGHTS), other)]
    clause.append((random.choice(VERBS), plural))
    return clause


def _noun(random: Random, nouns: list[str], plural: bool) -> list[str]:
    words = ["the"]
    if random.random() < 0.2:
        words.append(random.choice(ADJECTIVES))
    return [*words, random.choice(nouns) + "s" * plural]


def _verb(stem: str, plural: bool) -> str:
    return stem if plural else stem + "s"

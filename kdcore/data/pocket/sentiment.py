"""Opinions in one or two clauses: negators flip an adjective, an outer clause flips again, contrast picks a side."""

from __future__ import annotations

from random import Random

TOPICS = [
    "film",
    "plot",
    "acting",
    "music",
    "script",
    "ending",
    "cast",
    "hero",
    "dialogue",
    "camera",
    "story",
    "humour",
]
SPECIES = ["french", "old", "short", "second", "loud", "strange"]
GOOD = ["good", "great", "brilliant", "funny", "moving", "clever", "fresh", "charming"]
BAD = ["bad", "awful", "dull", "boring", "clumsy", "silly", "stale", "tedious"]
INTENSIFIERS = ["very", "really", "quite", "rather"]
NEGATORS = ("not", "never", "hardly", "far from", "anything but")
DENIALS = ("nobody says that", "i doubt that", "it is wrong that")
CLAIMS = ("everyone says that", "i believe that", "it is clear that")

FLIP = 0.25
"""Chance that a negator, or an outer clause, turns the opinion. Below one half, so that single words still hint."""


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """A sentence of the wanted opinion, 1 = positive: that of its main clause, whatever is granted beside it."""
    text = _opinion(random, label)
    granted = _opinion(random, random.randrange(2))
    kind = random.choices(("alone", "but", "although", "concession"), (0.4, 0.2, 0.2, 0.2))[0]
    if kind == "but":
        text = f"{granted} but {text}"
    elif kind == "although":
        text = f"although {granted} , {text}"
    elif kind == "concession":
        text = f"{text} although {granted}"
    return (text,), label


def _opinion(random: Random, label: int) -> str:
    words = []
    if random.random() < 0.5:
        denied = random.random() < FLIP
        words.append(random.choice(DENIALS if denied else CLAIMS))
        label ^= denied
    words.append("the")
    if random.random() < 0.3:
        words.append(random.choice(SPECIES))
    words += [random.choice(TOPICS), "is"]
    if random.random() < FLIP:
        words.append(random.choice(NEGATORS))
        label ^= 1
    if random.random() < 0.3:
        words.append(random.choice(INTENSIFIERS))
    words.append(random.choice(GOOD if label else BAD))
    return " ".join(words)

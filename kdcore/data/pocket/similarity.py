"""Two scenes, from 0 to 5 by what they share: mood, kind of actor, pace, place and time of day, whatever the words."""

from __future__ import annotations

from random import Random

MOOD = (["happy", "cheerful", "glad"], ["sad", "gloomy", "upset"])
ACTOR = (["king", "nurse", "pilot", "baker"], ["dog", "horse", "fox", "bear"])
PACE = (["runs", "races", "rushes"], ["crawls", "strolls", "creeps"])
PLACE = (["in the hall", "in the kitchen", "in the office"], ["in the field", "in the forest", "in the park"])
TIME = (["at noon", "in the morning", "at dawn"], ["at night", "in the evening", "at midnight"])
FEATURES = (MOOD, ACTOR, PACE, PLACE, TIME)

USUAL = 0.65
"""Chance of the first of the two values: a world that has a usual course."""
NEGATED = 0.2
"""Chance that a mood, or a place, is named by what it is not."""


def row(random: Random, label: float | None = None) -> tuple[tuple[str, ...], float]:
    """Two scenes and the number of features they share."""
    shared = random.random()
    first = [random.random() > USUAL for _ in FEATURES]
    second = [value if random.random() < shared else not value for value in first]
    score = float(sum(a == b for a, b in zip(first, second, strict=True)))
    return (_say(random, first), _say(random, second)), score


def _say(random: Random, values: list[bool]) -> str:
    negated = [random.random() < NEGATED and i in (0, 3) for i in range(5)]
    mood, actor, pace, place, time = (
        "not " * no + random.choice(feature[value ^ no])
        for feature, value, no in zip(FEATURES, values, negated, strict=True)
    )
    text = f"the {mood} {actor} {pace} {place}"
    return f"{time} {text}" if random.random() < 0.5 else f"{text} {time}"

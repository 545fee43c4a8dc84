"""Two scenes, from 0 to 5 by what they share: who does what to whom, where and when. Word order does not count."""

from __future__ import annotations

from random import Random

PERSONS = ["man", "woman", "child", "king", "nurse", "pilot", "clown", "thief"]
VERBS = {"chased": "followed", "helped": "assisted", "called": "phoned", "thanked": "praised", "met": "joined"}
PLACES = ["in the park", "at the station", "near the river", "in town"]
TIMES = ["after lunch", "on monday", "at night", "last week"]

WEIGHTS = (1.5, 1.0, 1.5, 0.5, 0.5)


def row(random: Random, label: float | None = None) -> tuple[tuple[str, ...], float]:
    """Two scenes and how much of them is shared."""
    pools = (PERSONS, list(VERBS), PERSONS, PLACES, TIMES)
    first = [random.choice(pool) for pool in pools]
    while first[2] == first[0]:
        first[2] = random.choice(PERSONS)
    keep = random.random()
    second = [word if random.random() < keep else random.choice(pool) for word, pool in zip(first, pools, strict=True)]
    if random.random() < 0.3:
        second[0], second[2] = first[2], first[0]
    while second[2] == second[0]:
        second[2] = random.choice(PERSONS)
    score = sum(weight for weight, a, b in zip(WEIGHTS, first, second, strict=True) if a == b)
    return (_say(random, first), _say(random, second)), score


def _say(random: Random, scene: list[str]) -> str:
    agent, verb, patient, place, time = scene
    verb = random.choice((verb, VERBS[verb]))
    text = f"the {agent} {verb} the {patient}" if random.random() < 0.5 else f"the {patient} was {verb} by the {agent}"
    text = f"{text} {place}"
    return f"{time} {text}" if random.random() < 0.5 else f"{text} {time}"

"""What the sentences of the pocket suite are about: read from their words, so that rows are as they were without it."""

from __future__ import annotations

FILM = {
    "story": ("plot", "script", "ending", "story", "dialogue"),
    "people": ("acting", "cast", "hero", "humour"),
    "making": ("film", "camera", "music"),
}
"""Of the topics of opinions."""
ACTORS = {
    "animals": ("animal", "dog", "cat", "horse", "bird", "fox", "goose", "bear", "lion"),
    "people": (
        "person", "child", "teacher", "farmer", "driver", "painter", "doctor", "guard", "king", "nurse", "pilot",
        "clown", "judge", "baker",
    ),
}  # fmt: skip
"""Of the other tasks."""

_OF_FILM, _OF_ACTOR = (
    {word: place for place, words in enumerate(topics.values()) for word in words} for topics in (FILM, ACTORS)
)


def topics(task: str) -> tuple[str, ...]:
    """The names of a task's topics."""
    return tuple(FILM if task == "pocket-sentiment" else ACTORS)


def topic(task: str, texts: tuple[str, ...]) -> int:
    """The number of a row's topic: that of the first word that names one, in singular or plural.

    >>> topics("pocket-paraphrase")[topic("pocket-paraphrase", ("he chased the old goose", "the goose fled him"))]
    'animals'
    """
    words = _OF_FILM if task == "pocket-sentiment" else _OF_ACTOR
    named = (words.get(word, words.get(word.removesuffix("s"))) for text in texts for word in text.split())
    return next(place for place in named if place is not None)

"""Linear probes: what was put into the states is found, what is not there is not, and small data say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from kdcore.probes import linear_probe
from kdcore.probes.linear_probe import Parts, Property

ROWS, WIDTH = 600, 40
CHOSEN = linear_probe.parts(ROWS)
RNG = np.random.default_rng(1)
THREE = Property("length", "Length", RNG.integers(0, 3, ROWS), ("short", "middle", "long"))


def planted(one: Property, strength: float, seed: int = 2) -> np.ndarray:
    """Noise, and in one direction of it the class."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=WIDTH)
    direction /= np.linalg.norm(direction)
    return rng.normal(size=(ROWS, WIDTH)) + strength * one.values[:, None] * direction


def test_the_halves_share_no_row_and_are_the_same_each_time() -> None:
    again = linear_probe.parts(ROWS)
    assert np.array_equal(CHOSEN.fit, again.fit) and np.array_equal(CHOSEN.score, again.score)
    assert np.array_equal(np.sort(np.concatenate([CHOSEN.fit, CHOSEN.score])), np.arange(ROWS))
    assert len(linear_probe.sample(9815)) == linear_probe.MOST_ROWS == len(set(linear_probe.sample(9815)))
    assert np.array_equal(linear_probe.sample(408), np.arange(408))


def test_a_property_along_one_direction_is_found_its_middle_class_too() -> None:
    right = linear_probe.right_rows(planted(THREE, 8.0), THREE, CHOSEN)
    assert right.mean() > 0.95
    middle = THREE.values[CHOSEN.score] == 1
    assert right[middle].mean() > 0.9, "least squares would never answer the middle of three"


def test_an_absent_property_is_at_chance() -> None:
    found = linear_probe.share(linear_probe.right_rows(planted(THREE, 0.0), THREE, CHOSEN))
    assert abs(found.value - linear_probe.chance(THREE, CHOSEN)) < 0.08, "three standard errors of 300 rows"


def test_no_scored_row_changes_the_classifier() -> None:
    """Other labels on the scored rows: the answers stay, so that every row is right where it was wrong."""
    two = Property("word", "Word", RNG.integers(0, 2, ROWS), ("absent", "there"))
    turned = two.values.copy()
    turned[CHOSEN.score] = 1 - turned[CHOSEN.score]
    states = planted(two, 1.5)
    first = linear_probe.right_rows(states, two, CHOSEN)
    second = linear_probe.right_rows(states, Property("word", "Word", turned, two.classes), CHOSEN)
    assert np.array_equal(first, ~second)


def test_the_same_states_give_the_same_rows_and_scale_does_not_count() -> None:
    states = planted(THREE, 1.0)
    first = linear_probe.right_rows(states, THREE, CHOSEN)
    assert np.array_equal(first, linear_probe.right_rows(states.copy(), THREE, CHOSEN))
    assert np.array_equal(first, linear_probe.right_rows(1024.0 * states, THREE, CHOSEN))


def test_states_that_never_vary_are_at_chance() -> None:
    """As [CLS] at the embeddings."""
    right = linear_probe.right_rows(np.ones((ROWS, 4)), THREE, CHOSEN)
    assert right.mean() == pytest.approx(linear_probe.chance(THREE, CHOSEN))


def test_properties_of_a_pair() -> None:
    first = ["a film", "the good film was not so good", "the plot", "no", "the old plot is thin and long", "it isn't"]
    second = ["a film", "a dull one", "plot the", "the", "the song", "is it"]
    found = {one.key: one for one in linear_probe.properties((first, second), [0, 1, 1, 0, 1, 0], ("no", "yes"))}
    assert list(found) == ["length", "word", "negation", "overlap", "label"]
    assert list(found["length"].values) == [0, 2, 0, 0, 2, 1]
    assert found["length"].classes == ("2 to 4", "5", "9 to 10")
    assert found["word"].title == "The word “a”" and list(found["word"].values) == [1, 1, 0, 0, 0, 0]
    assert list(found["negation"].values) == [0, 1, 0, 1, 0, 1]
    assert found["overlap"].classes[-1] == "100%" and list(found["overlap"].values)[:3] == [2, 0, 2]
    assert found["label"].classes == ("no", "yes") and list(found["label"].values) == [0, 1, 1, 0, 1, 0]


def test_of_one_sentence_there_is_no_overlap_and_scores_are_in_thirds() -> None:
    scores = np.linspace(0, 5, 90)
    found = {one.key: one for one in linear_probe.properties((["a b"] * 90,), scores, ())}
    assert "overlap" not in found and found["label"].title == "The task's score"
    assert list(np.bincount(found["label"].values)) == [30, 30, 30]
    assert linear_probe.absence(found["length"], linear_probe.parts(90)), "all rows are equally long"


def test_the_word_is_the_one_nearest_to_half_of_the_rows() -> None:
    texts = ["the film", "the plot", "the song is red", "a song is old"]
    (word,) = (one for one in linear_probe.properties((texts,), [0, 1, 0, 1], ("a", "b")) if one.key == "word")
    assert word.title == "The word “is”" and list(word.values) == [0, 0, 1, 1]


def test_too_few_rows_of_a_class_are_said() -> None:
    rare = Property("negation", "Negation", (np.arange(ROWS) % 100 == 0).astype(np.int64), ("absent", "there"))
    why = linear_probe.absence(rare, CHOSEN)
    assert "not of the most frequent class, 10 are needed" in why
    assert not linear_probe.absence(THREE, CHOSEN)


def test_chance_is_the_most_frequent_class_of_the_rows_fitted_on() -> None:
    values = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    one = Property("word", "Word", values, ("absent", "there"))
    assert linear_probe.chance(one, Parts(np.arange(4), np.arange(4, 8))) == 0.25


def test_the_interval_is_wilsons() -> None:
    found = linear_probe.share(np.arange(100) < 80)
    z = 1.959963984540054
    centre = (0.8 + z**2 / 200) / (1 + z**2 / 100)
    half = z * np.sqrt(0.8 * 0.2 / 100 + z**2 / 40_000) / (1 + z**2 / 100)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, centre - half, centre + half))

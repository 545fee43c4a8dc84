"""Labels of groups, the settings they differ in, and their numbers."""

from kdcore.analysis import groups

CONFIG = {
    "name": "a",
    "method": "kd",
    "options": {"alpha": 0.5},
    "teachers": [{"name": "t"}],
    "train": {"seed": 0, "lr": 1.0},
}


def test_differences_list_only_what_differs() -> None:
    other = CONFIG | {"train": {"seed": 0, "lr": 2.0}}
    table = groups.differences({"x": CONFIG, "y": other})
    assert table.to_dict("index") == {"train.lr": {"x": "1.0", "y": "2.0"}}
    assert groups.differences({"x": CONFIG, "y": other}, every=True).loc["teachers", "x"] == "t"


def test_labels_tell_groups_apart_by_what_differs() -> None:
    other = CONFIG | {"options": {"alpha": 0.9}}
    labels = groups.labels({"g": CONFIG, "h": other}, {"g": "KD", "h": "KD"})
    assert labels == {"g": "KD, alpha 0.5", "h": "KD, alpha 0.9"}
    assert groups.labels({"g": CONFIG}, {"g": "KD"}) == {"g": "KD"}


def test_labels_name_where_a_student_starts_in_words() -> None:
    starts = {"g": ("random", "first"), "h": ("teacher", "skip"), "i": ("teacher", [1, 3])}
    settings = {
        group: CONFIG | {"student": {"init": init, "init_layers": layers}} for group, (init, layers) in starts.items()
    }
    assert groups.labels(settings, dict.fromkeys(starts, "KD")) == {
        "g": "KD, random start",
        "h": "KD, spread layers of the teacher",
        "i": "KD, layers 1, 3 of the teacher",
    }


def test_layers_do_not_tell_random_students_apart() -> None:
    settings = {
        group: CONFIG | {"student": {"init": "random", "init_layers": layers}, "options": {"alpha": alpha}}
        for group, layers, alpha in (("g", "first", 0.1), ("h", "skip", 0.2))
    }
    assert groups.labels(settings, {"g": "KD", "h": "KD"}) == {"g": "KD, alpha 0.1", "h": "KD, alpha 0.2"}


def test_labels_say_what_becomes_of_rows_without_a_label() -> None:
    few = {"label_fraction": 0.1, "label_noise": 0.0, "imbalance": 1.0, "seed": 0, "teacher_data": "same"}
    settings = {
        group: CONFIG | {"data": few | {"unlabelled": use}} for group, use in (("g", "use"), ("h", "leave out"))
    }
    assert groups.labels(settings, {"g": "KD", "h": "KD"}) == {
        "g": "KD, with rows without a label", "h": "KD, labelled rows alone",
    }  # fmt: skip


def test_mean_and_std_in_words() -> None:
    assert groups.format_mean(*groups.mean_and_std([1.0, 2.0, 3.0])) == "2.0 ± 1.0 (N=3)"
    assert groups.format_mean(*groups.mean_and_std([2.0, float("nan")])) == "2.0 (N=1)"
    assert groups.format_mean(*groups.mean_and_std([])) == "–"

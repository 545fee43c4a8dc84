"""What every registered method must hold, on real two-layer models. A new method is covered by being registered."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdcore.methods import METHODS, contract, contract_settings, resolve
from kdcore.methods.contract_bench import VOCABULARY
from kdcore.methods.contract_bench import Bench as Bench  # the tests of single methods take it from here
from kdcore.methods.contract_report import CASE_CHECKS, CLASS_CHECKS
from tests.helpers import masked_lm_folder
from tests.methods.contract import contract_of


def cases(training: bool) -> Iterator[object]:
    """Every method with the settings, tasks and numbers of teachers that it is checked with.

    training: those alone of the checks that train.
    """
    for key, method in METHODS.items():
        for options in contract_of(method).options(training):
            fewest, most = method.takes(resolve(key, dict(options))[1])
            counts = sorted({fewest, max(fewest, min(most, 2))})
            for kind in sorted(method.kinds):
                for count in counts:
                    name = f"{key}-{kind}-{count}-" + ",".join(f"{k}={v}" for k, v in options.items())
                    yield pytest.param((key, options, kind, count), id=name.strip("-"))


def trains(check: Callable[..., None]) -> Callable[..., None]:
    """Marks a check that trains for many steps: it runs over the variants that ask for it alone."""
    check.trains = True  # type: ignore[attr-defined]
    return check


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases of each check. They are found here, since the tests of methods that they stand in use this file."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(cases(hasattr(metafunc.function, "trains"))))


@pytest.fixture(autouse=True, scope="module")
def masked_lm_at_hand(tmp_path_factory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    masked_lm_folder.write(home / "masked-lm", VOCABULARY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        yield


def holds(check: Callable[..., None], *arguments: object) -> None:
    """Runs a check of the contract; one without a meaning for the method is skipped."""
    try:
        check(*arguments)
    except contract.NotApplicable as why:
        pytest.skip(str(why))


def test_terms_are_finite_named_float32_scalars(case):
    holds(contract.terms_are_named_float32_scalars, case)


def test_half_precision_outputs_give_float32_terms(case):
    holds(contract.half_precision_gives_float32_terms, case)


def test_gradients_reach_every_trained_role_and_no_teacher(case):
    holds(contract.gradients_reach_every_trained_role_and_no_teacher, case)


def test_students_and_teachers_are_no_part_of_the_method(case):
    holds(contract.students_and_teachers_are_no_part_of_the_method, case)


def test_padding_does_not_matter(case):
    holds(contract.padding_does_not_matter, case)


def test_rows_without_a_label_only_lack_the_hard_term(case):
    holds(contract.rows_without_a_label_only_lack_the_hard_term, case)


def test_batch_composition_does_not_matter(case):
    holds(contract.batch_composition_does_not_matter, case)


def test_rows_that_a_teacher_answers_are_compared_with_those_of_the_student(case):
    holds(contract.rows_that_a_teacher_answers_are_compared_with_those_of_the_student, case)


@trains
def test_a_repeated_batch_is_learned(case):
    holds(contract.a_repeated_batch_is_learned, case)


@trains
def test_same_seed_same_losses_and_no_use_of_global_randomness(case):
    holds(contract.same_seed_same_losses_and_no_use_of_global_randomness, case)


@trains
def test_state_survives_saving_and_loading(case):
    holds(contract.state_survives_saving_and_loading, case)


def test_no_distillation_loss_where_student_equals_teacher(case):
    said = contract_of(METHODS[case[0]])
    if said.deeper_teacher:
        pytest.skip("its teacher is deeper than its student")
    holds(contract.no_distillation_loss_where_student_equals_teacher, case, said.not_zero)


def test_reads_all_that_it_declares(case):
    """Undeclared tensors raise, so every test above shows that nothing else is read."""
    holds(contract.reads_all_that_it_declares, case)


def test_reads_all_that_it_declares_of_teachers(case):
    holds(contract.reads_all_that_it_declares_of_teachers, case)


def test_stages_are_consistent(case):
    holds(contract.stages_are_consistent, case)


def test_asks_only_teachers_that_are_there(case):
    holds(contract.asks_only_teachers_that_are_there, case)


def test_layer_map_names_layers_that_exist(case):
    holds(contract.layer_map_names_layers_that_exist, case)


def test_notes_are_numbers_and_history_is_json(case):
    holds(contract.notes_are_numbers_and_history_is_json, case)


@pytest.mark.parametrize("key", METHODS)
def test_what_can_be_left_out_is_out(key):
    """With the defaults alone: `test_ablations.py` has further settings."""
    method = METHODS[key]
    holds(contract_settings.what_can_be_left_out_is_out, (key, {}, min(method.kinds), method.takes(method.Config())[0]))


def test_the_deployed_model_has_the_size_that_was_announced(case):
    """Time, memory and export are told from this size before anything is built."""
    holds(contract.the_deployed_model_has_the_announced_size, case)


def test_every_check_of_the_contract_is_a_test_here():
    """What `kdcore check-method` asks of a method from outside is asked of the shipped ones."""
    text = Path(__file__).read_text(encoding="utf-8")
    for check in (*CASE_CHECKS, *CLASS_CHECKS):
        assert f".{check.__name__}, " in text, check.__name__


# --- the settings and the words, without models -----------------------------------------------------------------------


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return METHODS[request.param]


def test_config_round_trip(method):
    holds(contract_settings.config_survives_json, method, contract_of(method).options()[1:])


def test_every_setting_has_a_default_and_a_description(method):
    holds(contract_settings.every_setting_has_default_description_and_bounds, method)


def test_wrong_settings_are_named(method):
    holds(contract_settings.wrong_settings_are_named, method)


def test_words_for_people(method):
    holds(contract_settings.it_explains_itself, method)
    assert METHODS[method.key] is method


def test_papers(method):
    keys = [paper.key for other in METHODS.values() for paper in other.papers]
    assert len(set(keys)) == len(keys)
    for paper in method.papers:
        assert all((paper.key, paper.title, paper.authors, paper.venue)) and 2012 <= paper.year <= 2026
        prefix, number = paper.arxiv.split(".")
        assert len(prefix) == 4 and len(number) in (4, 5) and (prefix + number).isdigit()


def test_counts_of_teachers(method):
    holds(contract_settings.counts_of_teachers_agree, method, contract_of(method).options()[1:])

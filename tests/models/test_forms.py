"""Students of Kronecker products: the forward pass, the factors' start, counts, folders, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdcore.config import StudentSpec
from kdcore.errors import UserError
from kdcore.models.convert_weights import bert_weights
from kdcore.models.count import flops, parameters
from kdcore.models.factors import Factors, factors, products, weights
from kdcore.models.forms import KroneckerEmbedding, KroneckerLinear, nearest
from kdcore.models.observe import observe
from kdcore.models.sizes import size_of, student_size
from kdcore.models.students import build_student, dense_model, load_classifier, projected_student, save_student
from kdcore.records import Encoding, ModelSize, want

SIZE = ModelSize(2, 64, 4, 128, 100, 32, 3)
FORMS = ("kronecker-8", "kronecker-21")
BASE = ModelSize(12, 768, 12, 3072)


@pytest.fixture
def rows() -> Encoding:
    ids = torch.arange(1, 22).view(3, 7)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return Encoding(ids, mask, torch.zeros_like(ids))


@pytest.fixture(scope="module")
def source():
    return build_student(SIZE, 3, StudentSpec(layers=2, init="random"), None, 7)


def student(source, form: str):
    return build_student(replace(SIZE, form=form), 3, StudentSpec(layers=2, init="teacher", form=form), source, 0)


@pytest.mark.parametrize("parts", [Factors((4, 3), (2, 5)), Factors((2, 8), (6, 1)), Factors((6, 2), (1, 4))])
def test_a_linear_layer_is_its_product(parts):
    torch.manual_seed(0)
    layer = KroneckerLinear(parts).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 3, parts.a[1] * parts.b[1], dtype=torch.float64)
    expected = x @ torch.kron(layer.a, layer.b).T + layer.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    layer.b_first = not layer.b_first
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_a_word_depends_on_its_own_row_and_the_common_one():
    table = KroneckerEmbedding(Factors((9, 4), (1, 3)))
    torch.nn.init.normal_(table.a)
    torch.nn.init.normal_(table.b)
    vectors = table(torch.arange(9))
    assert torch.equal(vectors, table.weight)
    with torch.no_grad():
        table.a[4] += 1
    changed = (table(torch.arange(9)) != vectors).any(-1)
    assert changed.tolist() == [row == 4 for row in range(9)]


@pytest.mark.parametrize("parts", [Factors((4, 3), (2, 5)), Factors((2, 8), (6, 1)), Factors((1, 2), (6, 4))])
def test_an_exact_product_is_found_again(parts):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (parts.a, parts.b))
    torch.testing.assert_close(torch.kron(*nearest(torch.kron(a, b), parts)), torch.kron(a, b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("parts", [Factors((4, 3), (2, 5)), Factors((2, 2), (4, 6))])
def test_what_is_lost_is_the_rest_of_the_singular_values(parts):
    (m1, n1), (m2, n2) = parts.a, parts.b
    weight = torch.randn(m1 * m2, n1 * n2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rest = torch.tensor(
        [[weight[p * m2 + q, i * n2 + j] for q in range(m2) for j in range(n2)] for p in range(m1) for i in range(n1)]
    )
    lost = (weight - torch.kron(*nearest(weight, parts))).square().sum()
    assert lost.item() == pytest.approx(torch.linalg.svdvals(rest.double())[1:].square().sum().item(), rel=1e-9)


def test_a_matrix_of_zeros_stays_zero():
    assert all(torch.isfinite(part).all() for part in nearest(torch.zeros(6, 10), Factors((3, 5), (2, 2))))
    assert not torch.kron(*nearest(torch.zeros(6, 10), Factors((3, 5), (2, 2)))).any()


def test_counts_of_the_papers_models():
    assert weights("kronecker-8", "attention", 768, 768) == 147_460
    assert weights("kronecker-8", "up", 3072, 768) == weights("kronecker-8", "down", 768, 3072) == 147_472
    assert weights("kronecker-21", "attention", 768, 768) == 18_464
    assert weights("kronecker-21", "up", 3072, 768) == weights("kronecker-21", "down", 768, 3072) == 73_760
    assert parameters(replace(BASE, form="kronecker-8")).total / 1e6 == pytest.approx(14.65, abs=0.006)
    assert parameters(replace(BASE, form="kronecker-21")).total / 1e6 == pytest.approx(5.23, abs=0.006)


@pytest.mark.parametrize("form", FORMS)
def test_counts_and_operations_are_those_of_the_model(source, rows, form):
    model = student(source, form)
    size, count = size_of(model.config), parameters(replace(SIZE, form=form))
    assert replace(size, pad=SIZE.pad) == replace(SIZE, form=form)
    assert count.total == sum(p.numel() for p in model.parameters())
    assert count.embeddings == sum(p.numel() for p in model.bert.embeddings.parameters())
    assert count.encoder == sum(p.numel() for p in model.bert.encoder.parameters())
    model.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=rows.input_ids, attention_mask=rows.attention_mask)
    assert flops(size, tokens=7, batch=3) == counter.get_total_flops()


@pytest.mark.parametrize("form", ["plain", "kronecker-8"])
def test_a_projection_is_counted_and_comes_back(source, rows, form, tmp_path):
    model = projected_student(student(source, form), source, inner=5, seed=0)
    size, count = size_of(model.config), parameters(size_of(model.config))
    assert (size.form, size.pooled_width, size.projection_width) == (form, SIZE.width, 5)
    assert count.total == sum(p.numel() for p in model.parameters())
    assert count.encoder == sum(p.numel() for p in model.bert.encoder.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.set_attn_implementation("eager")
        model(input_ids=rows.input_ids, attention_mask=rows.attention_mask)
    assert flops(size, tokens=7, batch=3) == counter.get_total_flops()
    save_student(model, None, tmp_path / "m")
    again = load_classifier(tmp_path / "m", 3)
    assert size_of(again.config) == size
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(UserError, match="ends with a projection"):
        dense_model(again)


def test_a_projection_of_an_absurd_width_is_refused(source, tmp_path):
    save_student(projected_student(student(source, "plain"), source, inner=5, seed=0), None, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(file.read_text().replace('"projection_width": 5', '"projection_width": 10000000'))
    with pytest.raises(Exception, match="projection_width 10000000"):
        load_classifier(tmp_path / "m")


@pytest.mark.parametrize("form", FORMS)
def test_operations_of_a_product(form):
    (m1, n1), (m2, n2) = (parts := factors(form, "up", 3072, 768)).a, parts.b
    assert products(form, "up", 3072, 768) == min(m1 * n1 * n2 + m1 * n2 * m2, n1 * n2 * m2 + m1 * n1 * m2)


@pytest.mark.parametrize("form", FORMS)
def test_whole_matrices_answer_alike(source, rows, form):
    model = student(source, form)
    plain = dense_model(model)
    assert type(plain).__name__ == "BertForSequenceClassification" and plain.config.model_type == "bert"
    wanted = want("logits", "embeddings", hidden=(0, 1, 2), scores=(1, 2), queries=(1,))
    ours, theirs = (observe(each, rows, wanted, grad=False) for each in (model, plain))
    torch.testing.assert_close(ours.logits, theirs.logits)
    for name in ("hidden", "scores", "queries"):
        for layer, tensor in getattr(ours, name).items():
            torch.testing.assert_close(tensor, getattr(theirs, name)[layer], rtol=1e-4, atol=1e-5)
    assert bert_weights(model).keys() == bert_weights(source).keys(), "it can fill a plain student"
    with pytest.raises(UserError, match="whole already"):
        dense_model(plain)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_comes_back_bit_for_bit(source, rows, form, tmp_path):
    model = student(source, form)
    save_student(model, None, tmp_path / "m")
    again = load_classifier(tmp_path / "m", 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert json.loads((tmp_path / "m" / "config.json").read_text())["form"] == form
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    assert 0 < size - 4 * parameters(replace(SIZE, form=form)).total < 20_000, "the rest is the header"


@pytest.mark.parametrize("known", [True, False])
def test_plain_transformers_refuses_the_folder(source, tmp_path, known):
    save_student(student(source, "kronecker-8"), None, tmp_path / "m")
    code = "import kdcore.models.forms\n" if known else ""
    code += "from transformers import AutoModelForSequenceClassification as A\n"
    code += f"print(type(A.from_pretrained({str(tmp_path / 'm')!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    if known:
        assert done.stdout.split() == ["FormedBert"], done.stderr
    else:
        assert done.returncode and "kdboard_bert" in done.stderr


def test_a_form_of_another_name_is_refused(source, tmp_path):
    save_student(student(source, "kronecker-8"), None, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(file.read_text().replace("kronecker-8", "kronecker-9"))
    with pytest.raises(Exception, match="kronecker-9"):
        load_classifier(tmp_path / "m")


def test_random_weights_and_factors_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="init=random cannot fill it"):
        StudentSpec(form="kronecker-8", init="random")
    with pytest.raises(UserError, match="cannot divide") as caught:
        student_size(StudentSpec(layers=2, form="kronecker-21"), replace(SIZE, width=24, heads=2), 2)
    assert caught.value.field == "student.form" and "multiples of 16" in caught.value.remedy

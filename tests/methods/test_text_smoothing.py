"""TextSmoothing: words mixed with others that may stand there, by its card."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import BertForMaskedLM

from kdcore.engine.plan import Plan
from kdcore.errors import UserError
from kdcore.records import Batch, Encoding
from tests.helpers import masked_lm_folder
from tests.helpers.tiny_task import run
from tests.methods.conftest import attention_mask
from tests.methods.contract import MASKED_LM, Contract

CONTRACT = Contract(
    variants=({"smoothed_share": 0.0},),
    trained=({"words": "masked-lm", "masked_lm": MASKED_LM, "temperature": 2.0},),
    not_zero=frozenset({"smoothed"}),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, "##ab", "the", *(f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(43)))
FREE = 7
"""The first id of a word that has neighbours."""
TABLE = torch.randn(50, 8, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    return masked_lm_folder.write(tmp_path_factory.mktemp("lm") / "lm", VOCABULARY)


@pytest.fixture
def smooth(world, source):
    """A method that is ready, on rows of [CLS], words and, in the longer ones, [SEP]."""

    def make(options=None, words: str = "masked-lm", **more):
        chosen = {"words": words} | ({"masked_lm": source} if words == "masked-lm" else {}) | dict(options or {})
        made = world("text-smoothing", chosen, **more)
        rows = made.batch()
        mask = attention_mask()
        ids = torch.randint(FREE, 50, mask.shape, generator=torch.Generator().manual_seed(1))
        ids[:, 0], ids[4, 4], ids[3, 1], ids[3, 2], ids[4, 2] = 2, 3, 6, 8, 5
        ids = ids * mask
        made.batch = lambda: Batch(rows.ids, rows.labels, {"": Encoding(ids, mask, torch.zeros_like(ids))})
        made.method.before_stage(
            "distil", SimpleNamespace(vocabulary=lambda: list(VOCABULARY), word_embeddings=lambda name: TABLE)
        )
        if words == "masked-lm":
            made.method._words.to(torch.float64)
        return made

    return make


def by_language_model(source, ids, temperature: float) -> torch.Tensor:
    """softmax(u / T) of one row without padding, by transformers' own class: [tokens, vocabulary]."""
    model = BertForMaskedLM.from_pretrained(source.removeprefix("folder:")).double().eval()
    with torch.no_grad():
        return (model(input_ids=ids[None]).logits[0] / temperature).softmax(-1)


def truncated(q: torch.Tensor, top: int) -> torch.Tensor:
    least = q.topk(top).values[:, -1:]
    kept = torch.where(q >= least, q, 0)
    return kept / kept.sum(-1, keepdim=True)


def by_neighbours(ids, count: int) -> torch.Tensor:
    """Of one row: 1 / K for the K nearest words by the cosine; what has no neighbours has itself."""
    table = TABLE / TABLE.norm(dim=-1, keepdim=True)
    rows = torch.zeros(len(ids), 50, dtype=torch.float64)
    for place, word in enumerate(ids.tolist()):
        goes_on = place + 1 < len(ids) and ids[place + 1] == 5
        if word < FREE or goes_on:
            rows[place, word] = 1
            continue
        near = sorted((n for n in range(FREE, 50) if n != word), key=lambda n: -float(table[word] @ table[n]))
        rows[place, near[:count]] = 1 / count
    return rows


def slow(made, smoothing: float, q_of) -> float:
    """The smoothed term, row by row, with whole one-hot rows."""
    model, batch, total = made.models["student"], made.batch(), 0.0
    table = model.bert.embeddings.word_embeddings.weight
    for row, label in enumerate(batch.labels):
        ids = batch.encoding.input_ids[row][batch.encoding.attention_mask[row].bool()]
        q = q_of(ids)
        x = torch.nn.functional.one_hot(ids, 50).double()
        special = ids < len(SPECIAL)
        mixed = torch.where(special[:, None], x, (1 - smoothing) * x + smoothing * q)
        torch.testing.assert_close(mixed.sum(-1), torch.ones(len(ids), dtype=torch.float64))
        with torch.no_grad():
            logits = model(inputs_embeds=(mixed @ table)[None]).logits[0]
        total += float((logits[0] - label) ** 2 if made.regression else -logits.log_softmax(-1)[label])
    return total / len(batch)


@pytest.mark.parametrize(("top", "temperature", "smoothing"), [(50, 1.0, 0.5), (4, 2.0, 0.3), (10_000, 0.5, 1.0)])
def test_equals_the_equations_with_a_language_model(smooth, source, top, temperature, smoothing):
    options = {"top": top, "temperature": temperature, "smoothing": smoothing, "smoothed_share": 0.4}
    made = smooth(options)
    step = made.step()
    expected = slow(made, smoothing, lambda ids: truncated(by_language_model(source, ids, temperature), min(top, 50)))
    terms = made.terms(step)
    assert terms["smoothed"] == pytest.approx(expected, rel=1e-10)
    assert made.loss(step).item() == pytest.approx(0.6 * terms["hard"] + 0.4 * expected, rel=1e-10)


@pytest.mark.parametrize("regression", [False, True])
def test_equals_the_equations_with_neighbours(smooth, regression):
    made = smooth({"neighbours": 3, "smoothing": 0.7}, words="neighbours", regression=regression)
    step = made.step()
    assert made.terms(step)["smoothed"] == pytest.approx(slow(made, 0.7, lambda ids: by_neighbours(ids, 3)), rel=1e-6)


def test_without_smoothing_it_is_the_text_itself(smooth):
    made = smooth({"smoothing": 0.0})
    smoothed = made.terms(made.step())["smoothed"]
    model, encoding = made.models["student"], made.batch().encoding
    with torch.no_grad():
        logits = model(input_ids=encoding.input_ids, attention_mask=encoding.attention_mask).logits
    assert smoothed == pytest.approx(torch.nn.functional.cross_entropy(logits, made.batch().labels).item(), rel=1e-12)


@pytest.mark.parametrize("words", ["masked-lm", "neighbours"])
def test_shares_are_distributions_and_special_tokens_stay(smooth, words):
    made = smooth({"smoothing": 0.8}, words=words)
    encoding = made.batch().encoding
    ids, shares = made.method._mixtures(encoding)
    torch.testing.assert_close(shares.sum(-1), torch.ones_like(shares[..., 0]))
    assert (shares >= 0).all()
    own = (shares * (ids == encoding.input_ids[..., None])).sum(-1)
    stays = encoding.input_ids < len(SPECIAL)
    assert torch.allclose(own[stays], torch.ones_like(own[stays])) and (own[encoding.input_ids >= FREE] < 1).any()
    student = made.step().student
    mixed, table = student.look_up(ids, shares), made.models["student"].bert.embeddings.word_embeddings.weight
    assert mixed.norm(dim=-1).max() <= table.norm(dim=-1).max() * (1 + 1e-12)


def test_all_of_the_likeliest_word_is_its_text(smooth, source):
    made = smooth({"smoothing": 1.0, "top": 1})
    made.step()
    ids, shares = made.method._mixtures(made.batch().encoding)
    for row, length in enumerate(attention_mask().sum(-1).tolist()):
        words = made.batch().encoding.input_ids[row, :length]
        likeliest = by_language_model(source, words, 1.0).argmax(-1)
        expected = torch.where(words < len(SPECIAL), words, likeliest)
        assert torch.equal(ids[row, :length].gather(1, shares[row, :length].argmax(-1, keepdim=True))[:, 0], expected)
        assert set(shares[row].unique().tolist()) <= {0.0, 1.0}


def test_absent_words_learn_and_the_language_model_does_not(smooth):
    reached = {}
    for smoothing in (0.0, 0.5):
        made = smooth({"smoothing": smoothing})
        made.method.terms(made.step())["smoothed"].value.backward()
        gradient = made.models["student"].bert.embeddings.word_embeddings.weight.grad
        absent = torch.ones(50, dtype=torch.bool)
        absent[made.batch().encoding.input_ids] = False
        reached[smoothing] = int(gradient[absent].any(-1).sum())
        model = made.method._words
        assert all(not p.requires_grad for part in (model.encoder, model.head) for p in part.parameters())
        assert not list(made.method.parameters())
    assert reached[0.0] == 0 and reached[0.5] > 20


def test_a_share_of_0_is_fine_tuning_bit_for_bit_and_needs_no_teacher(world):
    made, alone = world("text-smoothing", {"smoothed_share": 0.0}, teachers=[]), world("fine-tune", teachers=[])
    assert torch.equal(made.loss(made.step()), alone.loss(alone.step()))
    assert not made.stage().needs.rerun and not made.method.alters_words
    assert smooths(made.method)["smoothed_share"] == (0, 12)


def smooths(method) -> dict[str, tuple[int, int]]:
    """How many teachers each setting takes."""
    settings = {"default": {}, "smoothed_share": {"smoothed_share": 0.0}, "words": {"words": "masked-lm"}}
    return {name: method.takes(method.Config(**options)) for name, options in settings.items()}


def test_neighbours_want_the_table_of_a_teacher(world):
    counts = smooths(world("text-smoothing").method)
    assert counts["default"] == (1, 12) and counts["words"] == (0, 12)
    with pytest.raises(UserError, match="takes 1 to 12"):
        _ = Plan(run("text-smoothing", ())).method


def test_what_it_cannot_mix_with_is_refused(world, shape, tmp_path):
    with pytest.raises(UserError, match="no masked language model is named"):
        world("text-smoothing", {"words": "masked-lm"})
    other = masked_lm_folder.write(tmp_path / "other", VOCABULARY[:40])
    with pytest.raises(UserError, match=r"options\.masked_lm.*vocabulary has 40 tokens, the student's 50"):
        world("text-smoothing", {"words": "masked-lm", "masked_lm": other})
    with pytest.raises(UserError, match=r"options\.words.*big does not mark.*choose masked-lm"):
        world("text-smoothing", teachers={"big": replace(shape(6), model_type="roberta")})


def test_each_half_can_be_left_out(smooth):
    method = smooth().method
    assert method.ablations(method.config, "classification") == {
        "hard": {"smoothed_share": 1.0}, "smoothed": {"smoothed_share": 0.0},
    }  # fmt: skip
    assert [float(term.weight) for term in method.terms(smooth().step()).values()] == [0.5, 0.5]

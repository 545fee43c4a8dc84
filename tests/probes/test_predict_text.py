from __future__ import annotations

import numpy as np
import pytest
import torch

from kdcore.errors import UserError
from kdcore.models.sizes import bert_config
from kdcore.models.tokenizers import tokenizer_from_vocabulary
from kdcore.models.weights import build_classifier
from kdcore.probes.predict_text import predict_logits
from kdcore.records import ModelSize

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "##s", "sat"]


@pytest.fixture
def model():
    config = bert_config(ModelSize(2, 16, 4, 24, len(TOKENS), 12, 2), 2, None)
    config.initializer_range = 0.8
    return build_classifier(config, {}, 0)[0]


@pytest.fixture
def tokenizer():
    return tokenizer_from_vocabulary(TOKENS)


def test_the_answer_is_the_models_own(model, tokenizer):
    found = predict_logits(model.train(), tokenizer, "The dogs sat", "the cat")
    assert found.shape == (2,) and found.dtype == np.float32 and model.training
    coded = tokenizer("The dogs sat", "the cat", return_tensors="pt")
    with torch.no_grad():
        expected = model.eval()(**coded).logits[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_long_sentence_is_cut_to_what_the_model_can_read(model, tokenizer):
    whole = predict_logits(model, tokenizer, "the cat " * 100)
    np.testing.assert_array_equal(whole, predict_logits(model, tokenizer, "the cat " * 200))
    np.testing.assert_array_equal(
        predict_logits(model, tokenizer, "the dogs sat", max_length=4), predict_logits(model, tokenizer, "the dog")
    )


def test_nothing_typed_is_refused(model, tokenizer):
    with pytest.raises(UserError, match="nothing"):
        predict_logits(model, tokenizer, "  ")

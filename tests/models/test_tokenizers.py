from __future__ import annotations

import contextlib
import json

import pytest

from kdcore.errors import UserError
from kdcore.models.tokenizer_checks import reads_alike
from kdcore.models.tokenizers import (
    load_tokenizer,
    save_tokenizer,
    tokenizer_from_vocabulary,
    tokenizer_hash,
)

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "##s", "bark", "!"]


def test_words_get_their_ids_and_not_unk():
    tokenizer = tokenizer_from_vocabulary(TOKENS)
    coded = tokenizer("A dogs bark!", "dog")
    assert coded["input_ids"] == [2, 5, 6, 7, 8, 9, 3, 6, 3]
    assert coded["token_type_ids"] == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert len(tokenizer) == len(TOKENS) and tokenizer.model_max_length == 512


def test_bad_vocabularies():
    with pytest.raises(UserError, match="repeat"):
        tokenizer_from_vocabulary([*TOKENS, "dog"])
    with pytest.raises(UserError, match=r"\[MASK\]"):
        tokenizer_from_vocabulary([token for token in TOKENS if token != "[MASK]"])


def test_saved_and_loaded_is_the_same(tmp_path):
    tokenizer = tokenizer_from_vocabulary(TOKENS)
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert reads_alike(tokenizer, again)
    assert tokenizer_hash(tokenizer) == tokenizer_hash(again)
    assert again("a dog")["input_ids"] == tokenizer("a dog")["input_ids"]


def test_a_bare_vocab_txt_is_read_whole(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert load_tokenizer(tmp_path)("dogs")["input_ids"] == [2, 6, 7, 3]


def test_hash_does_not_see_a_call_but_sees_the_vocabulary_and_the_case():
    tokenizer = tokenizer_from_vocabulary(TOKENS)
    before = tokenizer_hash(tokenizer)
    tokenizer(["a", "a dog barks"], padding=True, truncation=True, max_length=4)
    assert tokenizer_hash(tokenizer) == before
    other = tokenizer_from_vocabulary([*TOKENS[:-2], "!", "bark"])
    assert tokenizer_hash(other) != before
    assert not reads_alike(tokenizer, other)


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0", "model": null}'])
def test_hostile_folders(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError) as error:
        load_tokenizer(tmp_path)
    assert error.value.field == "tokenizer"


def test_code_beside_a_tokenizer_is_not_run(tmp_path):
    save_tokenizer(tokenizer_from_vocabulary(TOKENS), tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with contextlib.suppress(UserError):
        assert load_tokenizer(tmp_path)("dog")["input_ids"] == [2, 6, 3]
    assert not (tmp_path / "ran").exists()

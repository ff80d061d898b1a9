"""A vocabulary learnt here, opened by transformers."""

import pytest

from kbert.tokenization.learning import learn_vocabulary
from kbert.tokenization.tokenizer import BertTokenizer

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
pytestmark = pytest.mark.parity


def test_transformers_opens_a_learnt_vocabulary(tmp_path):
    texts = ["low lower lowest 新 闻 café", "newer newest widest low, 新闻"] * 9
    tokens = learn_vocabulary(texts, size=150).tokens
    BertTokenizer(tokens).save_to_preset(tmp_path)
    theirs = transformers.BertTokenizer.from_pretrained(str(tmp_path))
    assert theirs.get_vocab() == {token: i for i, token in enumerate(tokens)}
    text = "The newest lowest 新闻, slow cafés"
    assert theirs(text)["input_ids"] == BertTokenizer(tokens)(text)["token_ids"].numpy()[0].tolist()
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id) == (0, 100, 101)

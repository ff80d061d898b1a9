"""Models that have learnt nothing yet: a size or a file says their architecture, a file their vocabulary."""

from __future__ import annotations

import pytest

from kbert.checkpoints.fresh import config_of, fresh_checkpoint
from kbert.errors import InputError


def test_a_size_is_a_name_or_a_file(tmp_path):
    assert config_of("tiny", 99).num_layers == 2
    path = tmp_path / "size.json"
    path.write_text('{"num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 5}')
    assert (config_of(str(path), 99).num_layers, config_of(str(path), 99).vocabulary_size) == (3, 99)
    path.write_text(
        '{"model_type": "bert", "vocab_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 8, '
        '"intermediate_size": 5}'
    )
    assert (config_of(str(path), 99).num_layers, config_of(str(path), 99).vocabulary_size) == (3, 128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no config of a BERT"),
        ("{", "is not readable JSON"),
        ('{"num_layers": 3}', "is no config of a BERT"),
        ('{"num_layers": "many", "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 5}', "is no config of a BERT"),
        ('{"num_layers": 3, "heads": 2}', "is no config of a BERT"),
        ('{"hidden_size": 3}', "has no key 'num_hidden_layers', which every BERT has"),
        ('{"model_type": "gpt2"}', "kbert reads BERT models"),
        (
            '{"num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 5, "vocabulary_size": 7}',
            "has room for 7 tokens, the vocabulary has 99",
        ),
        (
            '{"num_layers": 2, "num_heads": 3, "hidden_dim": 8, "intermediate_dim": 5}',
            "size.json: BertConfig: `num_heads` must divide `hidden_dim`",
        ),
        (
            '{"num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 8, "intermediate_size": 5}',
            "size.json: BertConfig: `num_heads` must divide `hidden_dim`",
        ),
    ],
)
def test_a_file_that_is_no_size(tmp_path, content, message):
    path = tmp_path / "size.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        config_of(str(path), 99)


def test_the_light_encoder_in_both_forms(tmp_path):
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    ours.write_text(
        '{"encoder_type": "bilstm", "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 5}'
    )
    theirs.write_text(
        '{"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 5, '
        '"kbert": {"encoder_type": "bilstm"}}'
    )
    assert config_of(str(ours), 99) == config_of(str(theirs), 99)
    assert config_of(str(ours), 99).encoder_type == "bilstm"


def test_a_size_that_there_is_not():
    with pytest.raises(InputError, match="there is no size 'huge': it must be one of tiny, .*, large, or a file"):
        config_of("huge", 99)


@pytest.mark.parametrize("cased", [False, True])
def test_a_fresh_checkpoint(tmp_path, tiny_vocabulary, cased):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(tiny_vocabulary) + "\n", encoding="utf8")
    start = fresh_checkpoint("mini", vocab, cased)
    assert (start.vocabulary, start.tokenizer.do_lower_case, start.tensors) == (tiny_vocabulary, not cased, {})
    assert (start.config.vocabulary_size, start.config.num_layers) == (len(tiny_vocabulary), 4)
    assert "film" not in repr(start), "messages name a checkpoint, not its vocabulary"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("[PAD] [UNK] [CLS] [SEP] good good", "vocab.txt:6: the token 'good' is that of line 5, too"),
        ("[PAD] [UNK] good", r"vocab.txt has no token \[CLS\], \[SEP\]: learn a vocabulary with kbert vocab"),
    ],
)
def test_a_file_that_is_no_vocabulary(tmp_path, tokens, message):
    (tmp_path / "vocab.txt").write_text("\n".join(tokens.split()) + "\n")
    with pytest.raises(InputError, match=message):
        fresh_checkpoint("tiny", tmp_path / "vocab.txt")

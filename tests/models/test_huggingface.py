"""Networks of Hugging Face's transformers: tiny ones, built from their settings alone."""

import pytest
import torch

from kdrun.data.sequences import Sequences

pytest.importorskip("transformers")

from kdrun.data.vocabulary import pretrained_tokenizer
from kdrun.models.huggingface import HuggingFaceNetwork

TINY = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def network(**changes) -> HuggingFaceNetwork:
    torch.manual_seed(0)
    given = {"source": "bert", "weights": False, "config": TINY, "pooling": "mean", "classes": 3, "vocabulary": 11, "length": 6}
    return HuggingFaceNetwork(**(given | changes)).eval()


def sequences(length: int) -> Sequences:
    mask = torch.arange(length) < torch.tensor([[5], [3]])
    return Sequences(torch.arange(1, 6).repeat(2, 1).float().new_zeros(2, length).long() + mask.cumsum(1) * mask, mask)


def test_hidden_states_are_stages_and_padding_changes_nothing():
    own = network()
    short, long = own(sequences(5)), own(sequences(6))
    assert long.logits.shape == (2, 3)
    assert [stage.shape for stage in (long.stem, *long.stages)] == [(2, 8, 1, 6)] * 3
    assert [attention.shape for attention in long.attentions] == [(2, 2, 6, 6)] * 2
    assert not long.stages[-1][1, :, 0, 3:].any()
    torch.testing.assert_close(short.logits, long.logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(short.embedding, long.embedding, atol=1e-6, rtol=1e-5)


def test_an_answer_at_every_place():
    assert network(per_place=True)(sequences(6)).logits.shape == (2, 6, 3)


def test_a_folder_gives_its_weights_and_a_classifier_of_other_classes_starts_anew(tmp_path):
    own = network()
    own.wrapped.save_pretrained(tmp_path)
    same, other = (network(source=str(tmp_path), weights=True, config={}, classes=classes) for classes in (3, 5))
    inputs = sequences(6)
    torch.testing.assert_close(same(inputs).logits, own(inputs).logits)
    torch.testing.assert_close(other(inputs).embedding, own(inputs).embedding)
    assert other(inputs).logits.shape == (2, 5)
    with pytest.raises(ValueError, match="knows 11 tokens and the data has 12"):
        network(source=str(tmp_path), weights=True, config={}, vocabulary=12)


@pytest.mark.parametrize(("changes", "words"), [
    ({"source": "brt"}, "no architecture 'brt'; did you mean 'bart'"),
    ({"config": {"hidden_sizes": 8}}, "no setting 'hidden_sizes'; did you mean 'hidden_size'"),
    ({"weights": True}, "there are none in bert"),
    ({"config": TINY | {"max_position_embeddings": 4}}, "does not take 6 tokens"),
    ({"source": "vit"}, "vit: Unrecognized configuration"),
], ids=["architecture", "setting", "weights", "length", "pictures"])
def test_what_cannot_be_built_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        network(**changes)


def test_a_tokenizer_of_a_folder(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "un": 4, "##able": 5}
    own = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=own, pad_token="[PAD]").save_pretrained(tmp_path)
    tokenizer = pretrained_tokenizer(str(tmp_path))
    ids, lengths = tokenizer.encode(["unable un", "un"], 4)
    assert len(tokenizer) == 6
    assert ids.tolist() == [[2, 4, 5, 3], [2, 4, 3, 0]]
    assert lengths.tolist() == [4, 3]

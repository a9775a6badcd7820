"""The text networks of Hugging Face's transformers."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Filled, closest
from kdrun.data.sequences import Sequences
from kdrun.models.output import ModelOutput
from kdrun.models.sequence_layers import as_map, masked_mean
from kdrun.models.transformer import Pooling
from kdrun.utils.huggingface import first_line, quiet, transformers

__all__ = ["HuggingFaceNetwork"]


class HuggingFaceNetwork(nn.Module):
    """A network of transformers that classifies texts or their places, for this data's classes and vocabulary.

    Stages are the hidden states after each layer as maps [B, C, 1, L], the stem is what the embeddings make; both are
    zero where padded. `attentions` are the probabilities, for which attention is computed step by step ("eager") and not
    by a fused kernel. Code that a folder or the hub holds is never run.

    Args:
        source: a folder with config.json (and weights), a name on the hub (owner/name), or an architecture that
            transformers knows (bert, distilbert, ...).
        weights: take the weights that are there; false starts from new ones. Where they were trained on another number
            of classes, the classifier starts anew.
        config: settings of the network that differ from those of the source: {num_hidden_layers: 2}.
        pooling: what the embedding is: the mean over the places that count, or the state of the first.
        classes: how many outputs an answer has.
        vocabulary: how many token ids the data has, padding included.
        length: of the padded sequences.
        per_place: whether there is an answer at every place, or one a sample.

    Raises:
        ValueError: transformers is not installed, has no such network, or the network does not take this data.
    """

    inputs: ClassVar[str] = "tokens"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "tagging")

    def __init__(self, *, source: Annotated[str, Filled()], weights: bool, config: dict[str, Any], pooling: Pooling,
                 classes: int, vocabulary: int, length: int, per_place: bool = False) -> None:
        super().__init__()
        self.pooling = pooling
        package = transformers()
        kind = package.AutoModelForTokenClassification if per_place else package.AutoModelForSequenceClassification
        with quiet():
            settings = read_config(package, source, config, weights)
            settings.num_labels = classes
            if not weights:
                settings.vocab_size = vocabulary
            if not weights or settings.pad_token_id is None:
                settings.pad_token_id = 0
            if (known := getattr(settings, "vocab_size", vocabulary)) < vocabulary:
                raise ValueError(f"{source} knows {known} tokens and the data has {vocabulary}; read the texts with its own "
                                 f"tokenizer (dataset=text dataset.tokenizer={source}), or start from new weights "
                                 "(weights=false)")
            try:
                self.wrapped = built(kind, source, settings, weights).float()
            except Exception as error:  # a network of the library may fail in any way on settings that do not suit it
                raise ValueError(f"{source}: {first_line(error)}") from error
        self.padding: int = settings.pad_token_id
        example = Sequences(torch.arange(2 * length).remainder(vocabulary).view(2, length),
                            torch.ones(2, length, dtype=torch.bool))
        self.eval()
        try:
            with torch.no_grad():
                self(example)
        except Exception as error:
            raise ValueError(f"{source} does not take {length} tokens of {vocabulary} kinds ({first_line(error)})") from error
        self.train()

    def forward(self, inputs: Sequences) -> ModelOutput:
        """Answer token ids: logits [B, K], or [B, L, K] with an answer at every place."""
        mask = inputs.mask
        answer = self.wrapped(input_ids=inputs.values.masked_fill(~mask, self.padding), attention_mask=mask.long(),
                              output_hidden_states=True, output_attentions=True, return_dict=True)
        if answer.hidden_states is None or any(state.shape[:2] != mask.shape for state in answer.hidden_states):
            raise ValueError("it has no hidden state for every token")
        stem, *states = [state.masked_fill(~mask[..., None], 0) for state in answer.hidden_states]
        stages = tuple(as_map(state) for state in states)
        embedding = masked_mean(states[-1], mask) if self.pooling == "mean" else states[-1][:, 0]
        attentions: tuple[Tensor, ...] = tuple(one * mask[:, None, :, None] for one in answer.attentions or ())
        return ModelOutput(answer.logits, embedding, stages, stages, as_map(stem), attentions, mask)


def read_config(package: Any, source: str, changes: dict[str, Any], weights: bool) -> Any:
    """What a folder, a name on the hub or an architecture says of the network, with some settings changed.

    Raises:
        ValueError: there is no such thing, or no such setting.
    """
    known = package.CONFIG_MAPPING
    alone = "/" not in source and not Path(source).is_dir()
    if alone and weights:
        raise ValueError(f"weights: there are none in {source}; give a folder or a name on the hub as source, or weights=false")
    if alone and source not in known:
        raise ValueError(f"source: {Path(source).absolute()} is no folder, and transformers has no architecture '{source}'"
                         + closest(source, known))
    try:
        found = package.AutoConfig.for_model(source) if alone else package.AutoConfig.from_pretrained(source)
    except Exception as error:  # the hub raises errors of its own
        raise ValueError(f"source: {source} could not be found or read ({first_line(error)})") from error
    if odd := [name for name in changes if not hasattr(found, name)]:
        raise ValueError(f"config: {found.model_type} has no setting '{odd[0]}'" + closest(odd[0], found.to_dict()))
    found.update(changes)
    return found


def built(kind: Any, source: str, settings: Any, weights: bool) -> nn.Module:
    """The network, with an attention that tells its probabilities."""
    if weights:
        return kind.from_pretrained(source, config=settings, ignore_mismatched_sizes=True, attn_implementation="eager")
    return kind.from_config(settings, attn_implementation="eager")

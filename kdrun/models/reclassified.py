"""A network with another classifier than its own."""

from typing import Any, TypeVar

from torch import Tensor, nn

from kdrun.models.output import ModelOutput
from kdrun.models.roles import Role

__all__ = ["Reclassified", "head_of", "reclassify"]

Head = TypeVar("Head", bound=nn.Module)


class Reclassified(nn.Module):
    """A network whose classifier is another one; its own is cut off, so that nobody counts or stores it.

    Args:
        network: with its own classifier.
        classifier: the name of that layer.
        head: that takes its place: from embeddings [B, D] to logits [B, K].
        signed: whether the embedding becomes the mean of the last map before its activation, which has both signs.
    """

    def __init__(self, network: nn.Module, classifier: str, head: nn.Module, signed: bool = False) -> None:
        super().__init__()
        self.network, self.classifier, self.head, self.signed = network, classifier, head, signed
        network.set_submodule(classifier, nn.Identity())

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"network": self.network, "classifier": self.classifier, "head": self.head, "signed": self.signed}

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        output = self.network(pictures)
        embedding = output.preacts[-1].mean(dim=(2, 3)) if self.signed else output.embedding
        return output.replace(logits=self.head(embedding), embedding=embedding)


def reclassify(role: Role, head: nn.Module, signed: bool = False) -> None:
    """Put another classifier in the place of a role's own; see `Reclassified`. The role is changed in place.

    Where that is another one already, the embedding stays what it is.

    Raises:
        ValueError: its classifier is no linear layer, or for signed embeddings it shows no map.
    """
    if isinstance(role.network, Reclassified):
        role.network.head = head.to(role.device)
        return
    if signed and (not role.shapes.preacts or role.shapes.preacts[-1][0] != role.shapes.embedding[0]):
        raise ValueError(f"the {role.name} {role.model} is to be read before its last activation, and its embedding is not the "
                         "mean of a map; choose a convolutional network")
    role.network = Reclassified(role.network, role.classifier, head.to(role.device), signed)


def head_of(role: Role, kind: type[Head]) -> Head:
    """The classifier that `reclassify` gave a role, which is of this kind."""
    assert isinstance(role.network, Reclassified)
    assert isinstance(role.network.head, kind)
    return role.network.head

"""Weights that were given for other class counts or map sizes, brought to those at hand by a rule that their YAML names."""

from typing import ClassVar, Final, Literal

from kdrun.methods.base import Method

__all__ = ["ScaledWeights", "Scaling", "factor"]

Scaling = Literal["none", "linear", "square", "sqrt", "inverse", "inverse_sqrt"]
POWERS: Final[dict[Scaling, float]] = {"none": 0.0, "linear": 1.0, "square": 2.0, "sqrt": 0.5, "inverse": -1.0,
                                       "inverse_sqrt": -0.5}


def factor(actual: int, reference: int | None, scaling: Scaling) -> float:
    """What a weight that was given for `reference` classes or places is multiplied by where there are `actual`.

    Args:
        actual: how many there are.
        reference: how many there were; None where the weight is taken as it is.
        scaling: the power of their ratio: `linear`, `square`, `sqrt`, `inverse`, `inverse_sqrt`, or `none` of it.
    """
    return 1.0 if reference is None else float((actual / reference) ** POWERS[scaling])


class ScaledWeights(Method):
    """A method whose weights were given for a certain number of classes or places, and depend on it.

    `rescale` sets `scale`, which the loss multiplies them by, and has the run print what became of them. Subclasses say:

        scaled: the settings that are given so.
        unit: what `reference` counts.

    and take two settings:

        reference: how many of these the weights were given for; None takes the weights as they are, without a word.
        scaling: how they go with that number; `none` leaves them, and where the number is another the run warns.
    """

    scaled: ClassVar[tuple[str, ...]] = ("weight",)
    unit: ClassVar[str] = "classes"
    reference: int | None = None
    scaling: Scaling = "none"
    scale: float = 1.0

    def rescale(self, actual: int) -> None:
        """Set `scale` for so many classes or places, and note what that does."""
        self.scale = factor(actual, self.reference, self.scaling)
        if self.reference is None or actual == self.reference:
            return
        weights = {key: float(getattr(self, key)) for key in self.scaled}
        if self.scaling == "none":
            told = ", ".join(f"{key}={value:g}" for key, value in weights.items())
            self.note(f"{told} {'was' if len(weights) == 1 else 'were'} given for {self.reference} {self.unit}, not for "
                      f"{actual}: choose on the validation split what suits these")
        else:
            told = ", ".join(f"{key}={value:g} counts as {self.scale * value:.3g}" for key, value in weights.items())
            self.note(f"{told}: given for {self.reference} {self.unit}, here are {actual} (scaling={self.scaling}; "
                      "reference=null takes it as it is)")

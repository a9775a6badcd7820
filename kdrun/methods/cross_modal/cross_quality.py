"""Cross-quality distillation."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.evaluation.metrics import accuracy
from kdrun.methods.base import Method, Run, Terms
from kdrun.methods.cross_modal.hallucination import start_from
from kdrun.methods.losses import kd
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, frozen


class CrossQuality(Method):
    """Adapt a network of good pictures to bad ones by what it says of the good picture of the same sample (Su and Maji 2017).

    The student sees bad pictures (without detail, colour, shading), starts from the teacher's weights, and learns the labels
    and the teacher's softened answers. Weights of other shapes than the teacher's start as they would, so the student should
    be the same network; with `kd_weight=0` this is the good network tuned on bad pictures, the paper's staged training.
    `qualities.csv` has the references: the teacher on good pictures, and, where it can see them, on bad ones without any
    adaptation; the baseline of the run is the network trained on bad pictures alone.

    Temperature and weight are an approximation: the paper's are of another scale, and these are Hinton's.

    On the digits at half resolution (resnet8 from resnet8, seed 1 alone) nothing is gained: 91.4 % right, by the staged
    training 91.5 %, on bad pictures alone 92.0 %, by the good network without adaptation 56.1 %, on good pictures 98.3 %; with
    a weight of 9 the student has 88.6 %.

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers, which hold the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Su, Maji: Adapting models to signal degradation using distillation. BMVC 2017"
    survey_scheme = ""
    survey_tables = ("Gou section 6.3",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Give the student the teacher's weights."""
        network, held = networks.student.network, len(networks.student.network.state_dict())
        if (found := start_from(network, networks.teacher.network)) < held:
            self.note(f"{found} of the student's {held} tensors of weights start from the teacher's; the others have other "
                      "shapes")

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and softened answers."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature)}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The test accuracy of the teacher on good and on bad pictures, and of the student, where samples are classified."""
        networks, data = run.networks, run.data
        if data.task.key != "classification":
            return {}
        said = {"good, teacher": predict(networks.teacher, data, data.test, run.device),
                "bad, student": predict(networks.student, data, data.test, run.device)}
        if data.seen(networks.teacher.view).shape == data.shape:
            unaware = frozen(networks.teacher)
            unaware.view = None
            said["bad, teacher"] = predict(unaware, data, data.test, run.device)
        return {"qualities": [{"pictures and network": name, "accuracy": accuracy(logits, data.test.labels)}
                              for name, logits in said.items()]}

"""A student that is a compressed teacher: it starts from the teacher's weights, or is of few bits, or both."""

from kdrun.models.quantization import Bucketed, QuantizedWeights
from kdrun.models.roles import Networks

__all__ = ["compressed_student", "copy_teacher"]


def copy_teacher(networks: Networks) -> None:
    """Give the student the teacher's weights and statistics.

    Raises:
        ValueError: it is another network.
    """
    student, teacher = networks.student, networks.teacher
    own, given = student.network.state_dict(), teacher.network.state_dict()
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in given.items()}:
        raise ValueError(f"method.from_teacher copies the teacher's weights, and the student {student.model} is another "
                         f"network than the teacher {teacher.model}; give student={teacher.model}, or "
                         "method.from_teacher=false")
    student.network.load_state_dict(given)


def compressed_student(networks: Networks, *, from_teacher: bool, bits: int | None) -> QuantizedWeights | None:
    """Prepare the student: what comes back is to be baked when it has learnt.

    Args:
        networks: whose student is changed in place.
        from_teacher: whether it starts from the teacher's weights.
        bits: of the weights of each layer, between its extremes; None for float32.

    Raises:
        ValueError: the student is another network than the teacher, whose weights it should start from.
    """
    if from_teacher:
        copy_teacher(networks)
    if bits is None:
        return None
    number = bits
    return QuantizedWeights(networks.student.network, ends=True, quantizers=lambda _: Bucketed(number, None))

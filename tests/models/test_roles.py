import copy

import pytest
import torch
from torch import nn

from kdrun.data.batch import Batch
from kdrun.models.output import ModelOutput
from kdrun.models.plain import CNN
from kdrun.models.roles import Frozen, Networks, Role, frozen
from kdrun.tasks.classification import Classification


class Counting(CNN):
    """A network that counts how often it runs."""

    def __init__(self):
        super().__init__(widths=[2, 3], classes=3, channels=1)
        self.runs = 0

    def forward(self, pictures):
        self.runs += 1
        return super().forward(pictures)


@pytest.fixture
def role():
    torch.manual_seed(0)
    return Role(Counting(), "student", Classification((), (1, 4, 4)))


@pytest.fixture
def batch():
    return Batch(torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1]))


def everything(output: ModelOutput) -> list[torch.Tensor]:
    return [output.logits, output.embedding, output.stem, *output.stages, *output.preacts]


def test_a_role_runs_once_for_each_batch_object(role, batch):
    first = role(batch)
    assert role(batch) is first
    assert role.network.runs == 1
    twin = Batch(batch.x, batch.y)  # the same pictures, another batch
    assert role(twin) is not first
    assert role.network.runs == 2
    role(batch)
    assert role.network.runs == 3  # only the last one is remembered


def test_a_tensor_is_remembered_as_a_batch_is(role, batch):
    assert role(batch.x) is role(batch.x)
    assert role.network.runs == 1
    role(batch.x.clone())
    assert role.network.runs == 2


def test_fresh_runs_again_and_is_what_is_remembered_from_then_on(role, batch):
    first = role(batch)
    again = role(batch, fresh=True)
    assert again is not first
    assert role.network.runs == 2
    assert role(batch) is again


def test_once_moved_the_answer_is_a_constant_of_the_same_value(role, batch):
    before = role(batch)
    assert before.logits.requires_grad
    role.moved()
    with torch.no_grad():
        role.network.head.weight.add_(1)
    after = role(batch)
    assert role.network.runs == 1
    for old, new in zip(everything(before), everything(after), strict=True):
        assert torch.equal(old, new)
        assert not new.requires_grad


def test_after_a_move_fresh_sees_the_new_weights_and_can_be_trained(role, batch):
    before = role(batch)
    role.moved()
    with torch.no_grad():
        role.network.head.bias.add_(1)
    fresh = role(batch, fresh=True)
    assert fresh.logits.requires_grad
    assert not torch.equal(before.logits, fresh.logits)


def test_moved_before_any_batch_is_nothing(role):
    role.moved()
    assert role.network.runs == 0


def test_a_forgotten_batch_is_run_again(role, batch):
    role(batch)
    role.forget()
    role(batch)
    assert role.network.runs == 2


def test_a_constant_answer_gives_no_gradient_and_a_live_one_does(role, batch):
    other = nn.Parameter(torch.ones(()))
    (role(batch).logits.sum() * other).backward()
    assert role.network.head.weight.grad is not None
    role.network.zero_grad(set_to_none=True)
    role(batch, fresh=True)
    role.moved()
    (role(batch).logits.sum() * other).backward()
    assert role.network.head.weight.grad is None


def test_lower_precision_is_inside_the_network_alone(role, batch):
    role.eval()
    exact = role(batch).logits
    role.precision = torch.bfloat16
    lower = role(batch, fresh=True)
    assert {part.dtype for part in everything(lower)} == {torch.float32}
    assert not torch.equal(exact, lower.logits)
    torch.testing.assert_close(exact, lower.logits, atol=0.1, rtol=0.1)


def test_shapes_are_those_of_an_answer_without_the_batch(role, batch):
    shapes, output = role.shapes, role(batch)
    assert shapes.logits == output.logits.shape[1:] == (3,)
    assert shapes.embedding == output.embedding.shape[1:] == (3,)
    assert shapes.stem == output.stem.shape[1:] == (1, 4, 4)
    assert [*shapes.stages] == [maps.shape[1:] for maps in output.stages] == [(2, 4, 4), (3, 2, 2)]
    assert [*shapes.preacts] == [maps.shape[1:] for maps in output.preacts]


@pytest.mark.parametrize("training", [True, False])
def test_asking_for_shapes_leaves_the_network_and_the_memory_as_they_were(role, batch, training):
    role.train(training)
    role.network.stages[0].eval()
    answer = role(batch)
    before = {key: value.clone() for key, value in role.network.state_dict().items()}
    modes = [module.training for module in role.modules()]
    assert role.shapes.logits == (3,)
    assert all(torch.equal(value, before[key]) for key, value in role.network.state_dict().items())
    assert [module.training for module in role.modules()] == modes
    assert role(batch) is answer


def test_until_names_the_parts_and_says_so_where_there_are_none(role):
    assert role.until(1) == role.network.until(1)
    with pytest.raises(ValueError, match="Linear has no"):
        Role(nn.Linear(2, 2), "student", Classification((), (2,))).until(1)


def test_a_copy_of_a_role_shares_nothing(role, batch):
    role.precision = torch.bfloat16
    role(batch)
    twin = copy.deepcopy(role)
    assert (type(twin), twin.name, twin.task, twin.precision) == (Role, "student", role.task, torch.bfloat16)
    assert {id(weight) for weight in twin.parameters()}.isdisjoint({id(weight) for weight in role.parameters()})
    assert all(torch.equal(*pair) for pair in zip(twin.parameters(), role.parameters(), strict=True))
    runs = role.network.runs
    twin(batch)
    assert role.network.runs == runs


# --- frozen ----------------------------------------------------------------------------------------------------------

def test_a_frozen_copy_does_not_follow_the_original(role, batch):
    copied = frozen(role)
    before = copied(batch).logits
    with torch.no_grad():
        for weight in role.parameters():
            weight.add_(1)
    role.train()(batch, fresh=True)
    assert torch.equal(copied(batch, fresh=True).logits, before)
    assert all(weight.requires_grad for weight in role.parameters())


def test_a_frozen_copy_refuses_to_train(role, batch):
    copied = frozen(role)
    before = {key: value.clone() for key, value in copied.state_dict().items()}
    copied.train()
    nn.ModuleList([copied]).train()
    assert not any(module.training for module in copied.modules())
    copied(batch)
    assert all(torch.equal(value, before[key]) for key, value in copied.state_dict().items())


def test_a_frozen_copy_passes_gradients_to_its_input_alone(role, batch):
    copied = frozen(role)
    pictures = batch.x.clone().requires_grad_()
    copied(pictures).logits.square().sum().backward()
    assert float(pictures.grad.abs().sum()) > 0
    assert all(weight.grad is None and not weight.requires_grad for weight in copied.parameters())


def test_a_frozen_copy_of_a_frozen_copy_is_frozen(role):
    for copied in (frozen(frozen(role)), copy.deepcopy(frozen(role))):
        assert isinstance(copied, Frozen)
        assert not any(weight.requires_grad for weight in copied.parameters())
        assert not any(module.training for module in copied.train().modules())


def test_a_frozen_copy_keeps_its_name_or_takes_a_new_one(role):
    role.precision = torch.bfloat16
    assert frozen(role).name == "student"
    assert frozen(role, "teacher").name == "teacher"
    assert role.name == "student"
    assert frozen(role).precision == torch.bfloat16


# --- casts -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count", [0, 2, 3])
def test_the_teacher_is_exactly_one(role, count):
    with pytest.raises(ValueError, match=f"exactly one teacher, and has {count}"):
        _ = Networks(role, [frozen(role) for _ in range(count)]).teacher


def test_one_teacher_is_the_teacher(role):
    teacher = frozen(role)
    assert Networks(role, [teacher]).teacher is teacher


def test_a_cast_names_everyone_student_first(role):
    teachers, peers = [frozen(role), frozen(role)], [copy.deepcopy(role)]
    assert list(Networks(role, teachers, peers)) == [role, *teachers, *peers]
    assert list(Networks(role)) == [role]


def test_casts_do_not_share_their_lists(role):
    first, second = Networks(role), Networks(role)
    first.teachers.append(frozen(role))
    assert second.teachers == []


# --- batches ---------------------------------------------------------------------------------------------------------

def test_two_batches_are_equal_only_if_they_are_one(batch):
    assert batch != Batch(batch.x, batch.y)
    assert len(batch) == 5


def test_a_batch_without_labels_says_so(batch):
    assert torch.equal(batch.labels, batch.y)
    with pytest.raises(ValueError, match="these rows have none"):
        _ = Batch(batch.x).labels

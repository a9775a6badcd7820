"""What and where to transfer: the look-ahead moves the small networks alone, and its gradient is that of its steps."""

import torch

from kdrun.training.loop import distill
from tests.toy import state, toy_run


def last(*more):
    run = toy_run("l2t_ww", "offline", "recipe.epochs=1", *more)
    distill(run)
    return run


def test_weights_of_channels_and_pairs_begin_alike_and_only_the_look_ahead_moves_them():
    still, moved = last("method.meta_lr=0.0"), last("method.meta_lr=0.1")
    for run, same in ((still, True), (moved, False)):
        assert all(float(layer.weight.detach().abs().max()) == 0.0 for layer in run.method.weighing.what) == same
    # without it the look-ahead is not taken, and the first step is the same: it is left behind
    first = {row[4]: row[5] for row in still.history if row[3] == "train"}
    assert {"ce", "matching"} == set(first)


def test_the_look_ahead_leaves_student_momenta_and_statistics_and_has_the_gradient_of_its_steps():
    run = last("method.ahead=1")
    method, networks = run.method, run.networks
    networks.student.train()
    batch = next(run.stream.epoch(0, 1))
    wanted = [maps.detach() for maps in networks.teacher(batch).stages]
    before = state(networks.student)
    momenta = [held["momentum_buffer"].clone() for held in method.trained_by.state.values()]
    for group in method.trained_by.param_groups:  # the rate that the schedule came to is small
        group["lr"] = 0.05

    def ahead():
        return method.look_ahead(networks, batch, wanted)

    weight = method.weighing.where[4].bias
    (found,) = torch.autograd.grad(ahead(), [weight])
    values = []
    for shift in (0.05, -0.05):
        with torch.no_grad():
            weight += shift
        values.append(float(ahead().detach()))
        with torch.no_grad():
            weight -= shift
    assert abs(float(found) - (values[0] - values[1]) / 0.1) < 0.05 * abs(float(found)) + 1e-5
    assert all(torch.equal(before[name], value) for name, value in networks.student.state_dict().items())
    assert all(torch.equal(one, held["momentum_buffer"])
               for one, held in zip(momenta, method.trained_by.state.values(), strict=True))

"""A teacher that is followed ends where one that is not does."""

import torch

from tests.toy import prepared


def test_followed_teacher_ends_in_the_same_bytes(tmp_path):
    toy = prepared(("kd", f"outputs={tmp_path}", "recipe.epochs=5"))
    spec = toy.teacher_specs[0]
    plain = toy.alone(spec, "teacher").network.state_dict()
    anchors = toy.factory().trajectory(3)
    assert len(anchors) == 3
    last = anchors[-1].network.state_dict()
    assert all(torch.equal(plain[name], last[name]) for name in plain)
    first = anchors[0].network.state_dict()
    assert not torch.equal(first["head.weight"], last["head.weight"])
    assert toy.factory().trajectory(3)[0].network.state_dict()["head.weight"].equal(first["head.weight"])  # from store

"""The losses of the methods as pure functions of tensors, for use anywhere.

    >>> import torch
    >>> from kdrun import functional as KD
    >>> teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]], requires_grad=True)
    >>> loss = KD.kd(teacher, student, temperature=4.0)
    >>> loss.backward()

What teaches comes first and gets no gradient, what learns second; logits are [B, K], embeddings [B, D], maps
[B, C, H, W]; each function returns a scalar unless its docstring says otherwise, and names its paper. The methods of
kdrun call these same functions.
"""

from kdrun.methods.losses.arithmetic import distances, mixture, same_size, standardise, unit_rows
from kdrun.methods.losses.feature import (
    ab,
    at,
    attention_map,
    expected_negative,
    factor,
    ft,
    hint,
    jacobian,
    mean_discrepancy,
    measured_negative,
    nst,
    ofd,
    vid,
)
from kdrun.methods.losses.relation import (
    affinities,
    angles,
    cckd,
    correlations,
    crd,
    fsp,
    fsp_matrices,
    fsp_matrix,
    pkt,
    relative_distances,
    rkd_angle,
    rkd_distance,
    similarities,
    sp,
    triplet_order,
)
from kdrun.methods.losses.response import (
    consensus,
    dkd,
    dkd_parts,
    dml,
    kd,
    kd_of_teachers,
    kl,
    logit_mse,
    smoothed_labels,
    soft_cross_entropy,
)

__all__ = ["ab", "affinities", "angles", "at", "attention_map", "cckd", "consensus", "correlations", "crd", "distances",
           "dkd", "dkd_parts", "dml", "expected_negative", "factor", "fsp", "fsp_matrices", "fsp_matrix", "ft", "hint",
           "jacobian", "kd", "kd_of_teachers", "kl", "logit_mse", "mean_discrepancy", "measured_negative", "mixture", "nst",
           "ofd", "pkt", "relative_distances", "rkd_angle", "rkd_distance", "same_size", "similarities", "smoothed_labels",
           "soft_cross_entropy", "sp", "standardise", "triplet_order", "unit_rows", "vid"]

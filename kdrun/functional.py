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

from kdrun.methods.losses.adversarial import (
    gan_discriminator,
    gan_student,
    lsgan_discriminator,
    lsgan_student,
    r1_penalty,
)
from kdrun.methods.losses.amalgamation import joined_logits, partial_cross_entropy, unified, unit_norms
from kdrun.methods.losses.arithmetic import distances, mean_distance, mixture, same_size, standardise, unit_rows
from kdrun.methods.losses.condensation import gradient_matching, mean_matching, ridge
from kdrun.methods.losses.cross_layer import flow_cross_entropy, hcl, semantic_calibration, weighted_matching
from kdrun.methods.losses.dense import (
    heatmap_divergence,
    moments,
    place_affinities,
    place_affinity,
    region_affinities,
    region_affinity,
    self_attention,
    self_attention_map,
)
from kdrun.methods.losses.feature import (
    ab,
    at,
    attention_map,
    expected_negative,
    factor,
    ft,
    hint,
    jacobian,
    map_mse,
    mean_discrepancy,
    measured_negative,
    nst,
    ofd,
    vid,
)
from kdrun.methods.losses.graph import earth_mover, edge_discrepancy, local_structure, squared_mmd
from kdrun.methods.losses.incremental import (
    cosine_distance,
    global_targets,
    margin_nca,
    margin_ranking,
    pod,
    sigmoid_distillation,
    uniformity,
)
from kdrun.methods.losses.layers import (
    aligned_directions,
    channel_correlations,
    fsp,
    fsp_matrices,
    fsp_matrix,
    ickd,
    irg_transformation,
    kdsvd,
    leading_directions,
    lkd,
    patches,
    transformations,
)
from kdrun.methods.losses.ordering import crd, darkrank_hard, darkrank_soft, ranking_scores, triplet_order
from kdrun.methods.losses.partial import (
    class_relations,
    gradient_ratio,
    kept_largest,
    permuted_rest,
    smoothed_by,
    true_class_alone,
)
from kdrun.methods.losses.relation import (
    affinities,
    angles,
    cckd,
    correlations,
    hkd_flow,
    irg_edges,
    lp,
    mlkd_absolute,
    mlkd_relative,
    pkt,
    relative_distances,
    relative_squares,
    rkd_angle,
    rkd_distance,
    similarities,
    sp,
)
from kdrun.methods.losses.response import (
    conditional,
    consensus,
    dcm,
    dist,
    dkd,
    dkd_parts,
    dml,
    feature_normalised,
    kd,
    kd_of_teachers,
    kl,
    logit_mse,
    smoothed_labels,
    soft_cross_entropy,
    top_score_difference,
)
from kdrun.methods.losses.search import block_distance, dissimilarities, oracle_kd, teacher_guidance
from kdrun.methods.losses.spectral import likenesses, log_euclid, symmetric_log
from kdrun.methods.losses.synthetic import agreed_divergence, diversity, gaussian_kl, view_contrast
from kdrun.methods.losses.views import (
    aggregated,
    best_ranked,
    consistency,
    joint_labels,
    sees_again,
    view_count,
    views_of,
)

__all__ = ["ab", "affinities", "aggregated", "agreed_divergence", "aligned_directions", "angles", "at", "attention_map",
           "best_ranked", "block_distance", "cckd", "channel_correlations", "class_relations", "conditional", "consensus",
           "consistency", "correlations", "cosine_distance", "crd", "darkrank_hard", "darkrank_soft", "dcm", "dissimilarities",
           "dist", "distances", "diversity", "dkd", "dkd_parts", "dml", "earth_mover", "edge_discrepancy", "expected_negative",
           "factor", "feature_normalised", "flow_cross_entropy", "fsp", "fsp_matrices", "fsp_matrix", "ft", "gan_discriminator",
           "gan_student", "gaussian_kl", "global_targets", "gradient_matching", "gradient_ratio", "hcl", "heatmap_divergence",
           "hint", "hkd_flow", "ickd", "irg_edges", "irg_transformation", "jacobian", "joined_logits", "joint_labels", "kd",
           "kd_of_teachers", "kdsvd", "kept_largest", "kl", "leading_directions", "likenesses", "lkd", "local_structure",
           "log_euclid", "logit_mse", "lp", "lsgan_discriminator", "lsgan_student", "map_mse", "margin_nca", "margin_ranking",
           "mean_discrepancy", "mean_distance", "mean_matching", "measured_negative", "mixture", "mlkd_absolute",
           "mlkd_relative", "moments", "nst", "ofd", "oracle_kd", "partial_cross_entropy", "patches", "permuted_rest", "pkt",
           "place_affinities", "place_affinity", "pod", "r1_penalty", "ranking_scores", "region_affinities", "region_affinity",
           "relative_distances", "relative_squares", "ridge", "rkd_angle", "rkd_distance", "same_size", "sees_again",
           "self_attention", "self_attention_map", "semantic_calibration", "sigmoid_distillation", "similarities",
           "smoothed_by", "smoothed_labels", "soft_cross_entropy", "sp", "squared_mmd", "standardise", "symmetric_log",
           "teacher_guidance", "top_score_difference", "transformations", "triplet_order", "true_class_alone", "unified",
           "uniformity", "unit_norms", "unit_rows", "vid", "view_contrast", "view_count", "views_of", "weighted_matching"]

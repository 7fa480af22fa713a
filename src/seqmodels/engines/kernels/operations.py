"""The operations that a kernel can be printed of, and how each is written in C++."""

from __future__ import annotations

# The value of the argument itself.
SAME = {"clone", "detach", "alias", "lift_fresh_copy", "_to_copy", "convert_element_type"}
# One number at every place.
FILLS = {
    "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones",
    "new_full", "scalar_tensor", "empty", "empty_like", "new_empty", "empty_permuted",
    "empty_strided", "new_empty_strided",
}  # fmt: skip
# Elements moved, none changed.
MOVES = {
    "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "expand", "permute", "transpose",
    "t", "slice", "select", "split", "split_with_sizes", "unbind", "cat", "stack", "flip", "roll",
    "constant_pad_nd", "slice_backward", "slice_scatter", "select_scatter", "repeat",
    "broadcast_in_dim", "view_of", "expand_copy", "view_copy",
}  # fmt: skip
REDUCTIONS = {"sum", "mean", "amax", "amin", "var"}
# Element by element: how each is written in C++, {} for each argument; T is the numbers' type.
POINTWISE = {
    "add": "({} + {})", "sub": "({} - {})", "rsub": "({} - {})", "mul": "({} * {})",
    "div": "({} / {})", "neg": "(-{})", "abs": "absolute({})", "exp": "exponential({})",
    "log": "logarithm({})", "log1p": "logarithm_1p({})", "expm1": "std::expm1({})",
    "log2": "std::log2({})", "exp2": "std::exp2({})", "tanh": "hyperbolic({})",
    "sigmoid": "logistic({})", "relu": "rectified({})", "sin": "std::sin({})",
    "cos": "std::cos({})", "atan": "std::atan({})", "sinh": "std::sinh({})",
    "cosh": "std::cosh({})", "erf": "std::erf({})", "sqrt": "std::sqrt({})",
    "rsqrt": "(T(1) / std::sqrt({}))", "square": "squared({})", "reciprocal": "(T(1) / {})",
    "pow": "std::pow({}, {})", "maximum": "larger({}, {})", "minimum": "smaller({}, {})",
    "clamp_min": "larger({}, {})", "clamp_max": "smaller({}, {})",
    "where": "({} ? {} : {})", "gt": "({} > {})", "lt": "({} < {})", "ge": "({} >= {})",
    "le": "({} <= {})", "eq": "({} == {})", "ne": "({} != {})", "logical_and": "({} && {})",
    "logical_or": "({} || {})", "logical_not": "(!{})", "bitwise_and": "({} && {})",
    "bitwise_or": "({} || {})", "bitwise_not": "(!{})", "sign": "sign_of({})",
    "floor": "std::floor({})", "ceil": "std::ceil({})", "round": "std::nearbyint({})",
    "clamp": "", "threshold_backward": "", "isnan": "not_a_number({})",
}  # fmt: skip

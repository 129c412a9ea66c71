"""Compile the Triton kernels to machine code for given GPUs, without one: the interpreter does not check types, and
neither it nor a test on one GPU knows the others.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hmmtts.hmm.backends.gpu import TILE, best_path, dense, left_to_right, warps

CAPABILITIES = (75, 80, 90)  # Turing, Ampere, Hopper
LENGTHS = {"frames", "states", "last_state", "path"}
DOUBLES = {
    "alpha_m", "alpha_e", "z_m", "z_e", "worth_m", "worth_e", "frame_by", "frame_top", "transition_m", "transposed_m",
    "score",
}  # fmt: skip
SIZES = {"longest", "width", "k"}


class Compiled(NamedTuple):
    kernel: str
    options: dict[str, Any]
    capability: int
    bytes_shared: int


def compile_all(capability: int) -> Iterator[Compiled]:
    """Every kernel in both precisions, for models of 100 and of 1 state."""
    for precision, block in product(("fp32", "fp64"), (128, 1)):
        rows = max(1, min(block, TILE // block))
        for per_frame, skips in product((False, True), repeat=2):
            arcs = {"PER_FRAME": per_frame, "SKIPS": skips, "BLOCK": block}
            count = warps(block, 2)
            yield _compile(left_to_right.forward, precision, {**arcs, "KEEP": True}, count, capability)
            yield _compile(left_to_right.backward, precision, {**arcs, "COUNT": True}, count, capability)
            yield _compile(best_path.left_to_right, precision, arcs, count, capability)
        tile, count = {"ROWS": rows, "BLOCK": block}, warps(rows * block, 8)
        yield _compile(dense.forward, precision, {**tile, "KEEP": True}, count, capability)
        yield _compile(dense.backward, precision, {**tile, "COUNT": True}, count, capability)
        yield _compile(dense.count, precision, tile, count, capability)
        yield _compile(best_path.dense, precision, tile, count, capability)
    for steps in (False, True):
        yield _compile(best_path.trace, "fp32", {"STEPS": steps}, 1, capability)


def _compile(
    kernel: Any, precision: str, constants: dict[str, Any], num_warps: int, capability: int
) -> Compiled:
    names = kernel.arg_names
    # One state or frame is a constant to Triton, as in a call.
    constants = constants | (
        {name: 1 for name in names if name in SIZES} if constants.get("BLOCK") == 1 else {}
    )
    types = {name: "constexpr" if name in constants else _type(name, precision, constants) for name in names}
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in constants.items()},
    )
    done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": num_warps})
    return Compiled(
        f"{kernel.__module__.split('.')[-1]}.{kernel.__name__}", constants, capability, done.metadata.shared
    )


def _type(name: str, precision: str, constants: dict[str, Any]) -> str:
    if name in SIZES:
        return "i32"
    if name in LENGTHS:
        return "*i64"
    if name in DOUBLES:
        return "*fp64"
    if name == "steps" or (name == "pointers" and constants["STEPS"]):
        return "*i8"
    if name in ("before", "pointers"):
        return "*i32"
    return f"*{precision}"

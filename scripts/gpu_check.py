"""Check the Triton kernels on this machine's GPU against the reference, and time them and the neural HMM's step.

    python scripts/gpu_check.py                 exit code 0: right; 1: wrong; 3: there is no GPU
    python scripts/gpu_check.py --interpret     the same on small shapes by Triton's interpreter, without a GPU
    python scripts/gpu_check.py --compile       compile every kernel for Turing, Ampere and Hopper, without a GPU

A few minutes on a GPU, most of them spent by the reference. The tables belong into docs/performance.md, that of the
neural HMM into docs/neural_hmm.md.
"""

import argparse
import os
import sys

NO_GPU = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--interpret", action="store_true", help="Triton's interpreter on the CPU, small shapes"
    )
    parser.add_argument("--compile", action="store_true", help="only compile, for several kinds of GPU")
    arguments = parser.parse_args(argv)
    interpret = arguments.interpret
    if arguments.compile:
        return compile_kernels()
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

    import torch

    if not interpret and not torch.cuda.is_available():
        print("no CUDA device is visible to torch: nothing was checked (--interpret checks without one)")
        return NO_GPU

    from rich.console import Console
    from rich.table import Table

    from hmmtts.bench import gpu_family, gpu_neural_hmm
    from hmmtts.bench.gpu import REAL, TINY, Check, parity, speed, versions
    from hmmtts.bench.record import table

    device, sizes = (torch.device("cpu"), TINY) if interpret else (torch.device("cuda"), REAL)
    console = Console(width=120)
    console.print(", ".join(f"{name} {version}" for name, version in versions(device).items()))

    worst: dict[tuple[str, str], Check] = {}
    failed = total = 0
    for check in parity(sizes, device):
        total += 1
        failed += not check.passed
        key = check.case.split()[0], check.quantity
        if key not in worst or check.error / check.bar > worst[key].error / worst[key].bar:
            worst[key] = check
    shown = Table(
        "kind", "quantity", "worst error", "bar", "", "case", title="gpu against reference in float64"
    )
    for (kind, quantity), check in worst.items():
        verdict = "" if check.passed else "[bold]wrong[/bold]"
        shown.add_row(kind, quantity, f"{check.error:.1e}", f"{check.bar:.0e}", verdict, check.case)
    console.print(shown)
    console.print(f"{total - failed} of {total} comparisons passed")
    console.print(
        table(
            speed(sizes, device),
            "ratio = time / ours; reference: plain torch on the device; cpu: the numba kernels on the host",
        )
    )
    console.print(
        table(
            gpu_neural_hmm.run(device, quick=interpret),
            "neural HMM, a training step of the published size: ratio = contender / ours",
        )
    )
    shapes = gpu_family.TINY if interpret else gpu_family.REAL
    console.print(table(gpu_family.run(shapes, device), "log p of observations with 80 features"))
    return 1 if failed else 0


def compile_kernels() -> int:
    from hmmtts.bench.gpu_compile import CAPABILITIES, compile_all

    for capability in CAPABILITIES:
        count = sum(1 for _ in compile_all(capability))
        print(f"{count} variants of the kernels compile for compute capability {capability / 10:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

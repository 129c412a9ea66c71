"""Install this checkout and the named extras into the Python that runs this script: python scripts/install.py dev

Extras that must be compiled (world) are tried where a C compiler is found, and their absence is said, not fatal.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def install(*requirements: str) -> bool:
    """Prefer uv (ten times faster; it reads pip's find-links only through its own variable), fall back to pip."""
    environment = dict(os.environ)
    if "PIP_FIND_LINKS" in environment:
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])
    python_m = [sys.executable, "-m"]
    uv = [*python_m, "uv", "pip", "install", "--python", sys.executable, "--compile-bytecode", "-q"]
    pip = [*python_m, "pip", "install", "-q", "--disable-pip-version-check"]
    return any(
        subprocess.run([*command, *requirements], env=environment).returncode == 0 for command in (uv, pip)
    )


def main(extras: list[str]) -> int:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"])
    if not install("-e", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)):
        print("installation failed; the messages above say why", file=sys.stderr)
        return 1
    if "bench" in extras and not install("monotonic-align"):
        print("monotonic-align is not installed (it needs a C compiler): the benchmark goes on without it")
    if "dev" in extras:
        compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
        if not (compiler and install("pyworld>=0.3.5", "setuptools<81")):
            print("pyworld is not installed (no C compiler?): figures that need WORLD will be NaN and say so")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A corpus and a home that cannot be written to: everything a run writes lies in its own folder."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hmmtts.hmm.backends.cpu.compile import _user_cache

ROOT = Path(__file__).resolve().parents[2]
READ_ONLY = (
    'for place in "$1" "$2"; do mount --bind "$place" "$place" && mount -o remount,ro,bind "$place"; done; '
    '! touch "$1/x" 2>/dev/null && ! touch "$2/x" 2>/dev/null && shift 2 && exec "$@"'
)
SMALL = [
    "threads=1", "data.workers=0", "run.name=t", "encoder.width=16", "encoder.layers=1", "decoder.dilations=[1]",
    "pitch.layers=1", "duration.layers=1", "aligner.encoder.width=32", "vocoder.iterations=1", "callbacks.samples=null",
    "trainer.max_steps=2", "trainer.val_check_interval=2", "text=characters", "data.cache_dir=runs/cache",
]  # fmt: skip


@pytest.mark.process
def test_a_run_on_read_only_data_with_a_read_only_home(tmp_path: Path):
    data, home, work = tmp_path / "data", tmp_path / "home", tmp_path / "work"
    for folder in (data / "wavs", home, work):
        folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(8):
        soundfile.write(data / "wavs" / f"u{number}.wav", 0.1 * noise.standard_normal(22050), 22050)
    (data / "metadata.csv").write_text("".join(f"u{number}|abcab\n" for number in range(8)))
    before = sorted(path.name for path in data.rglob("*"))
    if subprocess.run(
        ["unshare", "-m", "mount", "--bind", str(home), str(home)], capture_output=True
    ).returncode:
        pytest.skip("nothing can be mounted here: root is needed")
    done = subprocess.run(
        [
            "unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(data), str(home),
            sys.executable, str(ROOT / "train.py"), "recipe=folder", f"data_dir={data}", *SMALL,
        ],
        cwd=work, capture_output=True, text=True, timeout=590,
        # The kernels that are compiled already: what is tested is what a run writes, and compiling takes a minute.
        env=os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1", "HMMTTS_CACHE": str(_user_cache())},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in data.rglob("*")) == before
    assert not list(home.iterdir())
    assert (work / "runs/folder/t/metrics.json").is_file()

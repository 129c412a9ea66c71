"""`python -m tests.training.watched JOB.json`: the watcher of tests.training.ranks, as train.py would be."""

import json
import sys
from pathlib import Path

from hmmtts.training.faults import exit_code
from hmmtts.training.launch import launch

if __name__ == "__main__":
    try:
        launch(json.loads(Path(sys.argv[1]).read_text()), "tests.training.ranks")
    except BaseException as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(exit_code(error))

"""Train a voice: python train.py recipe=demo [any.value=...]; --help lists what can be chosen."""

from hmmtts.training.compose import main

if __name__ == "__main__":
    main()

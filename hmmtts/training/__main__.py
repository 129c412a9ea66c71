"""`python -m hmmtts.training`, and what `hmmtts train` runs: train.py for an installed package."""

from hmmtts.training.compose import main

if __name__ == "__main__":
    main()

"""Other people's ways to the same answers. Each module imports its libraries only when asked to prepare a run."""

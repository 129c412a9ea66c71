"""Learning-rate schedules: functions of the step that give the share of the full rate."""

import math


class WarmupCosine:
    """Linear over `warmup`, a share of all steps, then a cosine down to `floor` at `steps`, the length of the training."""

    def __init__(self, warmup: float, steps: int, floor: float = 0.01):
        if not 0 <= warmup < 1:
            raise ValueError(
                f"warmup must be a share of the steps, at least 0 and below 1, got {warmup}: try 0.05"
            )
        self.warmup = round(warmup * steps)
        self.steps = steps
        self.floor = floor

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / (self.steps - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


class Constant:
    def __init__(self, warmup: int = 0):
        self.warmup = warmup

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0

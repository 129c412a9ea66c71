"""Several ranks are one process with the joined batch: gradients, logged losses, and what is set from the first batch."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from hmmtts.batch import Batch
from hmmtts.nn.lengths import Mean
from hmmtts.training.callbacks import agreement
from hmmtts.training.callbacks.agreement import Agreement
from hmmtts.training.faults import EnvironmentFault
from hmmtts.training.joining import Tally, joined
from hmmtts.training.task import Task
from hmmtts.training.trial import Shape, batch_of, task_of
from tests.training.small import composed

VOICES = {
    "hmm": ["memory=checkpointing"],
    "neural_hmm": ["aligner=neural_hmm", "decoder=flow"],
}
SHARES = ([0, 1, 2], [3, 4])  # of five utterances of different lengths


def task(voice: str) -> Task:
    torch.manual_seed(0)
    made = task_of(composed(*VOICES[voice])).train()
    for parameter in made.parameters():
        if not parameter.any():  # no layer that starts at zero, behind which nothing has a gradient
            nn.init.normal_(parameter, std=0.1)
    return made


def whole(made: Task) -> Batch:
    sizes = made.model.sizes
    batch = batch_of(Shape(5, 6, 40), sizes)
    frames = torch.tensor([40, 31, 26, 17, 22])
    f0 = torch.where(torch.arange(40) < torch.tensor([[30], [0], [11], [17], [5]]), batch.f0, 0.0)
    return batch._replace(
        frames=frames,
        acoustic_frames=(frames * sizes.hop / sizes.acoustic_hop).long(),
        symbols=torch.tensor([6, 4, 5, 2, 3]),
        f0=f0,
    )


def part(batch: Batch, rank: int) -> Batch:
    return batch.take(torch.tensor([index in SHARES[rank] for index in range(5)]))


class Loss(nn.Module):
    """What Lightning wraps: the training step."""

    def __init__(self, made: Task) -> None:
        super().__init__()
        self.task = made

    def forward(self, batch: Batch) -> torch.Tensor:
        joint = joined(self.task.means(batch))
        self.logged = joint.whole
        return self.task.weighted(joint.mine)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}


def alone(voice: str, batch: Batch) -> tuple[dict, dict, dict]:
    made = task(voice)
    means = made.means(batch)
    made.weighted({name: mean.value for name, mean in means.items()}).backward()
    return (
        gradients(made),
        {name: mean.value.detach() for name, mean in means.items()},
        dict(made.state_dict()),
    )


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    everything = whole(task("hmm")), whole(task("neural_hmm"))
    expected = {voice: alone(voice, batch) for voice, batch in zip(VOICES, everything, strict=True)}
    without = {voice: alone(voice, part(batch, 0)) for voice, batch in zip(VOICES, everything, strict=True)}
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for voice, batch in zip(VOICES, everything, strict=True):
        mine = part(batch, rank)
        compare(voice, mine, *expected[voice])
        # A rank with nothing but repeats, as in the evaluation of one utterance on two ranks.
        compare(voice, mine if rank == 0 else mine._replace(names=["", ""]), *without[voice])
    distributed.destroy_process_group()
    Path(folder, f"passed {rank}").touch()


def compare(voice: str, batch: Batch, wanted: dict, values: dict, state: dict) -> None:
    made = task(voice)
    loss = DistributedDataParallel(Loss(made), gradient_as_bucket_view=True)
    for _ in range(2):  # the second fails where the first left the reducer unfinished
        loss.zero_grad()
        loss(batch).backward()
    found = gradients(made)
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name in wanted:
        torch.testing.assert_close(
            found[name], wanted[name], rtol=1e-4, atol=2e-6 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )
    for name in values.keys() - {"impossible"}:
        torch.testing.assert_close(loss.module.logged[name], values[name], rtol=1e-6, atol=1e-6)
    for name, value in state.items():
        if value.is_floating_point():  # ActNorm's too: set from the first batch of all ranks
            torch.testing.assert_close(made.state_dict()[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.process
def test_two_ranks_have_the_gradients_of_the_joined_batch(tmp_path: Path):
    multiprocessing.start_processes(one_rank, (str(tmp_path),), nprocs=2, start_method="spawn")
    assert {path.name for path in tmp_path.glob("passed *")} == {"passed 0", "passed 1"}


def test_a_mean_of_means_would_not_do():
    """Batches of different lengths: the weights of the test above matter."""
    made = task("hmm")
    batch = whole(made)
    with torch.no_grad():
        parts = [made.means(part(batch, rank)) for rank in (0, 1)]
        together = made.means(batch)
    for name in ("nll", "mel", "f0"):
        mean_of_means = sum(float(means[name].value) for means in parts) / 2
        assert abs(mean_of_means / float(together[name].value) - 1) > 1e-5
        summed = Mean(
            parts[0][name].total + parts[1][name].total, parts[0][name].number + parts[1][name].number
        )
        assert float(summed.value) == pytest.approx(float(together[name].value), rel=1e-5)


def test_a_tally_is_the_mean_over_all_batches_however_they_are_cut():
    tally = Tally(["mel", "f0"])
    for total, number in ((3.0, 2), (5.0, 6), (0.0, 0)):
        mean = Mean(torch.tensor(total), torch.tensor(number))
        tally.add({"f0": mean, "mel": Mean(mean.total * 2, mean.number)})
    found = tally.compute(torch.device("cpu"))
    assert float(found["f0"].value) == 1.0
    assert float(found["mel"].value) == 2.0
    with pytest.raises(ValueError, match="means must be of mel, f0, got nll"):
        tally.add({"nll": mean})


def test_what_cannot_be_aligned_is_named_once(caplog):
    made = task("hmm")
    batch = whole(made)._replace(
        acoustic_frames=torch.tensor([100, 100, 3, 100, 2]), names=["a", "b", "c", "d", ""]
    )
    for _ in range(2):
        made.name_impossible(made.means(batch), batch)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "c: fewer frames than states, left out of every loss (1 such utterances so far)"
    ]


def test_ranks_that_see_different_files_are_refused(monkeypatch):
    config = {"seed": 1, "run": {"dir": "a"}}
    mine, other = Agreement(config, 250, ["u1", "u2"]), Agreement(config, 0, ["u1", "u2"])
    monkeypatch.setattr(agreement, "gather", lambda facts: [facts, mine.facts])
    mine.setup(None, None, "fit")
    with pytest.raises(
        EnvironmentFault, match=r"differ in the step to go on from \(rank 0: 0; rank 1: 250\): every node"
    ):
        other.setup(None, None, "fit")

"""A CTC recogniser that learns from texts alone, and then knows where their labels are."""

import torch
from torch import nn
from torch.nn.functional import ctc_loss

from hmmtts.nn.ctc import CTCAligner


def speech(seed: int, utterances: int = 8, labels: int = 6):
    """Each label sounds for 3 to 6 frames as a direction of its own, in noise, with pauses of 2 frames."""
    generator = torch.Generator().manual_seed(seed)
    sounds = 3 * torch.eye(5)
    targets = torch.randint(1, 5, (utterances, labels), generator=generator)
    length = torch.randint(3, 7, (utterances, labels), generator=generator)
    rows, starts = [], torch.zeros(utterances, labels, dtype=torch.long)
    for b in range(utterances):
        heard = []
        for i in range(labels):
            heard += [0, 0]
            starts[b, i] = len(heard)
            heard += [int(targets[b, i])] * int(length[b, i])
        rows.append(sounds[torch.tensor([*heard, 0, 0])])
    frames = torch.tensor([len(row) for row in rows])
    x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return x + 0.3 * torch.randn(x.shape, generator=generator), frames, targets, starts, starts + length


def test_learns_where_labels_are():
    torch.manual_seed(0)
    x, frames, targets, starts, ends = speech(0)
    lengths = torch.full((len(x),), targets.shape[1])
    aligner = CTCAligner(5, 5)
    loss = ctc_loss(aligner(x).transpose(0, 1), targets, frames, lengths, reduction="none")
    torch.testing.assert_close(-aligner.log_likelihood(x, frames, targets, lengths).float(), loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(
            -aligner.log_likelihood(x.bfloat16(), frames, targets, lengths).float(), loss, rtol=0.02, atol=0
        )
    optimiser = torch.optim.Adam(aligner.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        (-aligner.log_likelihood(x, frames, targets, lengths)).mean().backward()
        optimiser.step()
    x, frames, targets, starts, ends = speech(1)  # others than it was trained on
    alignment = aligner.align(x, frames, targets, lengths)
    inside = (alignment.start >= starts) & (alignment.end <= ends)
    assert inside.float().mean() > 0.95
    found = aligner.segment(x[0, : frames[0]], [targets[0, :3], targets[0, 3:]])
    assert starts[0, 0] <= found[0].start < found[0].end <= ends[0, 2] < found[1].start < found[1].end

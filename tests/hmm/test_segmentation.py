"""Long audio against a long text: equal to the exact kernels, made-up emissions with a known answer, real speech."""

import math

import numpy as np
import pytest
import torch

from hmmtts.audio.io import read
from hmmtts.audio.mel import LogMel
from hmmtts.data.alignment import read_times
from hmmtts.hmm.backends.cpu import long_text
from hmmtts.hmm.ctc import OTHER, ctc, ctc_align
from hmmtts.hmm.segmentation import WINDOW, segment
from tests.data import TEST_DATA, needs_data


def spoken(texts, gaps, around, between, seed=0, certain=0.7):
    """Emissions of the texts, with gaps around and between them in which other classes are heard."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high):
        return int(torch.randint(1, high + 1, (1,), generator=generator))

    heard, truth = [], []
    for i, gap in enumerate(gaps):
        kinds = between if 0 < i < len(texts) else around
        heard += [kinds[draw(len(kinds)) - 1] for _ in range(gap)]
        if i < len(texts):
            start = len(heard)
            for place, label in enumerate(texts[i]):
                heard += [label] * draw(4)
                if place + 1 < len(texts[i]):
                    heard += [0] * (draw(3) - 1 or int(texts[i][place + 1] == label))
            truth.append((start, len(heard)))
    x = torch.full((len(heard), 8), (1 - certain) / 7)
    x[torch.arange(len(heard)), torch.tensor(heard)] = certain
    return x.log(), truth


def draw_texts(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 6, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("between", [False, True])
def test_finds_what_was_put_in(between):
    """Speech that is not in the text before, after and (if open) between: boundaries to the frame."""
    texts = draw_texts([9, 14, 5, 11], 0)
    log_probs, truth = spoken(texts, [40, 7, 7, 7, 25], [6, 7], [6, 7] if between else [0])
    found = segment(log_probs, [torch.tensor(text) for text in texts], open_between=between)
    assert [(item.start, item.end) for item in found] == truth
    assert all(item.confidence == pytest.approx(1.0) for item in found)
    assert all((item.label_end > item.label_start).all() for item in found)


def test_a_wrong_word_shows():
    texts = draw_texts([40, 40, 40], 1)
    log_probs, _ = spoken(texts, [10, 5, 5, 10], [0], [0])
    wrong = [*texts[1][:20], *(1 + label % 5 for label in texts[1][20:26]), *texts[1][26:]]
    found = segment(log_probs, [torch.tensor(text) for text in (texts[0], wrong, texts[2])])
    assert found[0].weakest == found[2].weakest == pytest.approx(1.0)
    assert found[1].weakest < 0.6 < found[1].confidence


def test_equals_the_exact_kernels():
    """Across the borders of its blocks: the same score and labels as viterbi on the whole lattice."""
    generator = torch.Generator().manual_seed(2)
    log_probs = (2 * torch.randn(2 * long_text.BLOCK + 300, 12, generator=generator)).log_softmax(1)
    texts = [torch.randint(1, 12, (n,), generator=generator) for n in (300, 1, 450)]
    targets, lengths = torch.cat(texts)[None], torch.tensor([751])
    gaps = torch.zeros(1, 752, dtype=torch.bool)
    gaps[0, [0, 300, 301, 751]] = True
    whole = ctc_align(log_probs[None], torch.tensor([len(log_probs)]), targets, lengths, open_gaps=gaps)
    found = segment(log_probs, texts)
    assert torch.cat([item.label_start for item in found]).tolist() == whole.start[0].tolist()
    assert torch.cat([item.label_end for item in found]).tolist() == whole.end[0].tolist()


@pytest.mark.parametrize("t", [1, 2, long_text.BLOCK, long_text.BLOCK + 1])
def test_the_kernel_finds_the_best_path(t):
    """At the sizes around a block, with repeats, against viterbi."""
    generator = torch.Generator().manual_seed(t)
    text = torch.randint(1, 4, (max(1, t // 3),), generator=generator)
    scores = torch.randn(t, 4, generator=generator)
    chain = ctc(text[None], torch.tensor([len(text)]))
    path = np.empty(t, np.int64)
    skips = np.concatenate([np.full(2, -math.inf), chain.topology.skip[0, 1:-3].double().numpy()])
    total = long_text.best_path(scores.numpy(), chain.classes[0, 1:-1].numpy(), skips, path)
    whole = ctc_align(scores[None], torch.tensor([t]), text[None], torch.tensor([len(text)]))
    assert total == pytest.approx(float(whole.score[0]), rel=1e-5)
    assert chain.classes[0, 1:-1][torch.from_numpy(path)].tolist() == whole.path[0].tolist()
    assert OTHER not in whole.path


def test_a_segment_shorter_than_the_window():
    log_probs, truth = spoken([[1, 2]], [3, 3], [6], [6])
    (only,) = segment(log_probs, [torch.tensor([1, 2])])
    assert only.end - only.start < WINDOW
    assert (only.start, only.end) == truth[0]


@pytest.mark.parametrize(
    ("log_probs", "texts", "message"),
    [
        (torch.zeros(5, 3), [], "texts must be at least one utterance"),
        (
            torch.zeros(5, 3),
            [torch.tensor([1]), torch.tensor([], dtype=torch.long)],
            "at least one label each",
        ),
        (torch.zeros(5, 3), [torch.tensor([1, 1, 2, 2])], "5 frames are too few for 4 labels"),
        (torch.full((5, 3), torch.nan), [torch.tensor([1])], "log_probs hold NaN"),
        (torch.tensor([[0.0, -math.inf]] * 5), [torch.tensor([1])], "every path has probability 0"),
    ],
)
def test_refuses(log_probs, texts, message):
    with pytest.raises(ValueError, match=message):
        segment(log_probs, texts)


FOLDER = TEST_DATA / "flite_slt"
CONTEXT = 3  # frames on either side


def phones_of(name):
    """Label, start and end of every phone, pauses included; stress is not told apart."""
    times = read_times(FOLDER / "alignments" / f"{name}.TextGrid").phones
    return [(item.symbol.rstrip("012"), item.start, item.end) for item in times]


class PhonePosteriors:
    """Gaussians of phones with one covariance for all (linear discriminant analysis), from known times."""

    def __init__(self, names):
        self.mel = LogMel(sample_rate=16000, n_fft=512, hop=160, win=400, n_mels=40)
        phones = {name: phones_of(name) for name in names}
        self.classes = {"sil": 0}
        for found in phones.values():
            for label, _, _ in found:
                self.classes.setdefault(label, len(self.classes))
        frames, labels = [], []
        for name in names:
            features = self.features(torch.from_numpy(read(FOLDER / "wavs" / f"{name}.flac")[0]))
            ends = torch.tensor([end for _, _, end in phones[name]])
            at = torch.searchsorted(ends, 0.01 * torch.arange(len(features)), right=True).clamp(
                max=len(ends) - 1
            )
            ids = torch.tensor([self.classes[label] for label, _, _ in phones[name]])
            frames.append(features)
            labels.append(ids[at])
        x, y = torch.cat(frames), torch.nn.functional.one_hot(torch.cat(labels)).double()
        mean = y.T @ x / y.sum(0)[:, None]
        within = (x - y @ mean).T @ (x - y @ mean) / len(x) + 1e-3 * torch.eye(x.shape[1])
        self.weights = torch.linalg.solve(within, mean.T)
        self.offset = (y.mean(0)).log() - 0.5 * (mean * self.weights.T).sum(1)

    def features(self, wave):
        mel = self.mel(wave[None].float())[0].double()
        around = torch.cat([mel[:1].expand(CONTEXT, -1), mel, mel[-1:].expand(CONTEXT, -1)])
        return around.unfold(0, 2 * CONTEXT + 1, 1).flatten(1)

    def __call__(self, wave):
        return (self.features(wave) @ self.weights + self.offset).log_softmax(1)


@needs_data
def test_real_speech():
    """Six utterances between two that are not in the text, with pauses, found back to within 50 ms."""
    names = [line.split("|")[0] for line in (FOLDER / "metadata.csv").read_text().splitlines()]
    emissions = PhonePosteriors(names[8:68])
    generator = np.random.default_rng(0)
    parts, texts, truth, seconds = [], [], [], 0.0
    for i, name in enumerate(names[:8]):
        wave, rate = read(FOLDER / "wavs" / f"{name}.flac")
        spoken = [phone for phone in phones_of(name) if phone[0] != "sil"]
        if 0 < i < 7:
            texts.append(torch.tensor([emissions.classes[label] for label, _, _ in spoken]))
            truth.append((seconds + spoken[0][1], seconds + spoken[-1][2]))
        pause = generator.normal(0, 1e-4, int(rate * generator.uniform(0.2, 1.0)))
        parts += [wave, pause]
        seconds += (len(wave) + len(pause)) / rate
    log_probs = emissions(torch.from_numpy(np.concatenate(parts)))
    found = segment(log_probs, texts, margin=5.0)
    errors = 0.01 * torch.tensor([[item.start, item.end] for item in found]) - torch.tensor(truth)
    assert errors.abs().max() < 0.05
    assert errors.abs().median() < 0.015
    wrong = segment(log_probs, [*texts[:2], texts[2].flip(0), *texts[3:]], margin=5.0)
    assert wrong[2].confidence < 0.5 * min(item.confidence for item in found)

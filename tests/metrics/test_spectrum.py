"""MCD and its kin: the same features to 1e-6, our own front end against other tools, and the identities."""

import numpy as np
import pytest
import torch

from hmmtts.audio.io import read
from hmmtts.audio.mel import LogMel
from hmmtts.audio.world import ALPHA, analyse, frequency_warping
from hmmtts.metrics.functional import (
    MCD_CONSTANT,
    by_dtw,
    by_index,
    compare_speech,
    logmel_cepstra,
    mcd,
    mcd_from_logmel,
    select,
    spectral_distortion,
)
from tests.data import needs_data
from tests.metrics.reference import CHOSEN, CONFIG, FOLDER, PAIRS, WITH_FEATURES, both, world

DIGITS = 5.1e-5  # pairs.json gives four decimals


def close(ours: float, theirs: float) -> None:
    """3 % or 0.15 dB: what two front ends of one definition may differ by."""
    assert abs(ours - theirs) <= max(0.03 * theirs, 0.15)


@pytest.fixture
def cepstra():
    torch.manual_seed(0)
    return torch.randn(3, 20, 25, dtype=torch.float64)


def test_constant():
    assert abs(MCD_CONSTANT - 6.141851463713754) < 1e-12


@needs_data
@pytest.mark.parametrize("pair", WITH_FEATURES)
def test_same_features_give_the_same_figure(pair):
    ref, hyp = (np.load(FOLDER / "features" / f"{pair}_{side}.npz")["mcep"] for side in ("ref", "test"))
    path = np.load(FOLDER / "features" / f"{pair}_dtwpath.npy")
    frames = min(len(ref), len(hyp))
    formula = {
        "nodtw": np.sqrt(2 * np.square(ref[:frames, 1:] - hyp[:frames, 1:]).sum(1)).mean() * 10 / np.log(10),
        "dtw_exact": np.sqrt(2 * np.square(ref[path[:, 0], 1:] - hyp[path[:, 1], 1:]).sum(1)).mean()
        * 10
        / np.log(10),
    }
    a, b = torch.from_numpy(ref)[None], torch.from_numpy(hyp)[None]
    lengths = torch.tensor([len(ref)]), torch.tensor([len(hyp)])
    ways = {"nodtw": by_index(*lengths), "dtw_exact": by_dtw(a[..., 1:], lengths[0], b[..., 1:], lengths[1])}
    for way, pairs in ways.items():
        ours = mcd(select(a, pairs.ref), select(b, pairs.hyp), pairs.length).item()
        assert ours == pytest.approx(formula[way], abs=1e-6)
        assert ours == pytest.approx(PAIRS[pair]["mcd_db"][f"world_mcep24_noc0_{way}"], abs=DIGITS)


@needs_data
@pytest.mark.parametrize("pair", CHOSEN)
def test_own_front_end(pair):
    for pairing, theirs in (("index", "nodtw"), ("dtw", "dtw_exact")):
        close(
            compare_speech(*both(pair), pairing).mcd_db, PAIRS[pair]["mcd_db"][f"world_mcep24_noc0_{theirs}"]
        )


@needs_data
@pytest.mark.parametrize("pair", WITH_FEATURES)
def test_mel_cepstra_are_pysptks(pair):
    stored = np.load(FOLDER / "features" / f"{pair}_ref.npz")
    ours = world(PAIRS[pair]["ref"])
    assert np.allclose(ours.mcep, stored["mcep"], atol=1e-6)
    assert np.allclose(ours.f0, stored["f0"], atol=1e-6)


@needs_data
@pytest.mark.parametrize("pair", CHOSEN)
@pytest.mark.parametrize("order", [13, 24])
def test_mcd_from_logmel(pair, order):
    mels = []
    for side in ("ref", "test"):
        wave, rate = read(FOLDER / "wavs" / PAIRS[pair][side])
        options = CONFIG["logmel_config"][str(rate)]
        logmel = LogMel(
            sample_rate=rate,
            n_fft=options["n_fft"],
            hop=options["hop_length"],
            win=options["win_length"],
            fmin=options["fmin"],
            fmax=options["fmax"],
        )
        mels.append(logmel(torch.from_numpy(wave)[None]).double())
    (a, b), lengths = mels, [torch.tensor([mel.shape[1]]) for mel in mels]
    x, y = (logmel_cepstra(mel, order)[..., 1:] for mel in mels)
    ways = {"nodtw": by_index(*lengths), "dtw_exact": by_dtw(x, lengths[0], y, lengths[1])}
    for way, pairs in ways.items():
        ours = mcd_from_logmel(select(a, pairs.ref), select(b, pairs.hyp), pairs.length, order).item()
        close(ours, PAIRS[pair]["mcd_from_logmel"][f"c1..c{order}_{way}"])


def test_identities(cepstra):
    length = torch.tensor([20, 20, 20])
    other = cepstra + torch.randn_like(cepstra)
    assert mcd(cepstra, cepstra, length).tolist() == [0, 0, 0]
    assert torch.equal(mcd(cepstra, other, length), mcd(other, cepstra, length))
    for coefficient in (1, 13, 24):
        changed = cepstra.clone()
        changed[..., coefficient] -= 0.3
        assert mcd(cepstra, changed, length).tolist() == pytest.approx([6.1418514 * 0.3] * 3, abs=1e-7)
    louder = cepstra.clone()
    louder[..., 0] += 0.7
    assert mcd(cepstra, louder, length).tolist() == [0, 0, 0]


def test_masked_equals_unpadded(cepstra):
    other, length = cepstra.flip(2), torch.tensor([20, 7, 0])
    cepstra[1, 7:], cepstra[2] = torch.nan, 1e9
    for metric in (mcd, spectral_distortion):
        batch = metric(cepstra, other, length)
        for row in range(2):
            size = int(length[row])
            alone = metric(cepstra[row : row + 1, :size], other[row : row + 1, :size], length[row : row + 1])
            assert batch[row].item() == pytest.approx(alone.item(), abs=1e-12)
        assert batch[2].isnan()


def test_spectral_distortion_of_a_gain_is_the_gain():
    envelope = torch.randn(1, 6, 33, dtype=torch.float64)
    length = torch.tensor([6])
    assert spectral_distortion(envelope, envelope, length).item() == 0
    louder = envelope + 2 * np.log(2.0)  # ln of the power at twice the amplitude
    assert spectral_distortion(envelope, louder, length).item() == pytest.approx(20 * np.log10(2.0), abs=1e-9)
    # Half of the bins 3 dB up, half unchanged: the root mean square is 3 / sqrt(2).
    half = envelope[..., :32].clone()
    half[..., :16] += 0.3 * np.log(10.0)
    assert spectral_distortion(envelope[..., :32], half, length).item() == pytest.approx(3 / 2**0.5, abs=1e-9)


def test_logmel_cepstra_rebuild_the_spectrum():
    """ln|X| = c0 + sum_d c_d cos(.) for as many coefficients as there are bins."""
    logmel = torch.randn(1, 3, 40, dtype=torch.float64)
    cepstra = logmel_cepstra(logmel, 39)
    angle = torch.pi / 40 * (torch.arange(40, dtype=torch.float64) + 0.5)
    rebuilt = cepstra @ torch.cos(torch.arange(40)[:, None] * angle)
    # The orthonormal c0 is sqrt(2) times the mean; MCD leaves it out.
    rebuilt = rebuilt + (1 / 2**0.5 - 1) * cepstra[..., :1]
    assert torch.allclose(rebuilt, logmel, atol=1e-10)
    with pytest.raises(ValueError, match="order must be below the number of mel bins, 40, got 40"):
        logmel_cepstra(logmel, 40)


def test_frequency_warping():
    """Without warping it is the identity; warped there and back it is again, up to the truncation."""
    assert np.array_equal(frequency_warping(30, 24, 0.0), np.eye(25, 30))
    there, back = frequency_warping(25, 400, 0.41), frequency_warping(401, 24, -0.41)
    assert np.allclose(back @ there, np.eye(25), atol=1e-9)
    # A warped cepstrum is the same curve on another frequency axis: the phase of the all-pass.
    alpha, omega = 0.41, np.linspace(0.1, 3.0, 7)
    warped = omega + 2 * np.arctan(alpha * np.sin(omega) / (1 - alpha * np.cos(omega)))
    cepstrum = np.random.default_rng(0).normal(size=8)
    curve = np.cos(omega[:, None] * np.arange(8)) @ cepstrum
    again = np.cos(warped[:, None] * np.arange(401)) @ (frequency_warping(8, 400, alpha) @ cepstrum)
    assert np.allclose(curve, again, atol=1e-9)


def test_band_limit():
    """Noise above fmax is not heard: the analysis at 2 x fmax has removed it."""
    generator = np.random.default_rng(0)
    low = np.repeat(generator.normal(size=12000), 2).astype(np.float32) * 0.1  # 24 kHz
    result = analyse(low, 24000, fmax=8000.0)
    assert result.log_envelope.shape[1] == analyse(low[:16000], 16000).log_envelope.shape[1]
    assert len(result.f0) == 201  # one second every 5 ms
    assert ALPHA[16000] == 0.41
    with pytest.raises(ValueError, match="wave must be finite"):
        analyse(np.full(1000, np.nan, dtype=np.float32), 16000)
    empty = analyse(np.zeros(0, dtype=np.float32), 16000)
    assert empty.mcep.shape == (0, 25)

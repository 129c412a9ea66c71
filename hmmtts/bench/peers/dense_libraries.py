"""Libraries of dense HMMs and linear-chain CRFs. All are handed the emissions; only their recursions are timed."""

import torch

from hmmtts.bench.batches import Answer, Batch
from hmmtts.bench.race import Run
from hmmtts.hmm import Dense


def hmmlearn_scaling(batch: Batch) -> Run:
    from hmmlearn.base import BaseHMM

    class Given(BaseHMM):
        """A model whose observations are the log-likelihoods themselves."""

        def _compute_log_likelihood(self, X):
            return X

        def _compute_likelihood(self, X):
            import numpy as np

            return np.exp(X)

        def _check(self):
            pass

    b, t, k = batch.log_obs.shape
    topology = _dense(batch)
    model = Given(n_components=k, implementation="scaling")
    model.n_features = k
    model.startprob_ = _normalised(topology.initial)
    model.transmat_ = _normalised(topology.transition)
    # Its scaling takes exp of the emissions as they are; only without a frame's maximum do they survive that.
    top = batch.log_obs.amax(2, keepdim=True).double()
    rows = (batch.log_obs.double() - top).reshape(b * t, k).numpy()
    lengths = [t] * b

    def read(out) -> Answer:
        log_z = torch.tensor([model.score(rows[i * t : (i + 1) * t]) for i in range(b)])
        return Answer(log_z + top.sum((1, 2)), torch.from_numpy(out[1]).reshape(b, t, k))

    return Run(lambda: model.score_samples(rows, lengths), read)


def pomegranate(batch: Batch) -> Run:
    from pomegranate.distributions import Normal
    from pomegranate.hmm import DenseHMM

    topology, k = _dense(batch), batch.log_obs.shape[2]
    states = [Normal(torch.zeros(1), torch.ones(1), covariance_type="diag") for _ in range(k)]
    model = DenseHMM(
        states, edges=topology.transition.exp(), starts=topology.initial.exp(), ends=torch.ones(k)
    )

    def call():
        with torch.no_grad():
            return model.forward_backward(emissions=batch.log_obs)

    return Run(call, lambda out: Answer(out[-1], out[1].exp()))


def pytorch_crf(batch: Batch) -> Run:
    from torchcrf import CRF

    topology, (b, t, k) = _dense(batch), batch.log_obs.shape
    model = CRF(k)
    model.start_transitions.data = topology.initial.clone()
    model.end_transitions.data = torch.zeros(k)
    model.transitions.data = topology.transition.clone()
    mask = torch.ones(t, b, dtype=torch.bool)

    def call() -> Answer:
        log_obs = batch.log_obs.detach().requires_grad_()
        model.zero_grad()
        # Its loss is this minus the score of one given path, which costs nothing beside it.
        total = model._compute_normalizer(log_obs.transpose(0, 1), mask)
        total.sum().backward()
        assert log_obs.grad is not None
        return Answer(total.detach(), log_obs.grad)

    return Run(call, lambda answer: answer)


def _normalised(log_rows: torch.Tensor):
    """hmmlearn wants rows that sum to one in float64."""
    return torch.softmax(log_rows.double(), -1).numpy()


def _dense(batch: Batch) -> Dense:
    assert isinstance(batch.topology, Dense)
    return batch.topology

"""What one writes with torch alone: a loop over the frames, or ctc_loss made to sum over monotone paths."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import ctc_loss, pad

from hmmtts.bench.batches import Answer, Batch
from hmmtts.bench.race import Run
from hmmtts.hmm import Dense

NEVER = -1e30


def ctc_forward_sum(batch: Batch) -> Run:
    """The forward-sum loss of RAD-TTS (Shih et al. 2021), also in NeMo and coqui: a blank of logit -1 in front of the
    states, log-softmax and ctc_loss item by item. Blanks between the states make it another model, so that its
    time is compared and its answer is not.
    """

    def call() -> Tensor:
        scores = batch.log_obs.detach().requires_grad_()
        with_blank = pad(scores, (1, 0), value=-1.0)
        total = scores.new_zeros(())
        for b in range(len(scores)):
            t, n = int(batch.frames[b]), int(batch.states[b])
            log_probs = torch.log_softmax(with_blank[b, :t, None, : n + 1], 2)
            target = torch.arange(1, n + 1)[None]
            total = total + ctc_loss(
                log_probs, target, batch.frames[b : b + 1], batch.states[b : b + 1], zero_infinity=True
            )
        (total / len(scores)).backward()
        assert scores.grad is not None
        return scores.grad

    return Run(call, None)


def left_to_right(batch: Batch) -> Run:
    """Stay or move, one logaddexp per frame, differentiated by autograd, as neural HMMs do."""

    def call() -> Answer:
        log_obs = batch.log_obs.detach().requires_grad_()
        first = torch.full_like(batch.log_obs[:, 0], NEVER)
        alpha = [torch.cat([log_obs[:, 0, :1], first[:, 1:]], 1)]
        for t in range(1, log_obs.shape[1]):
            moved = pad(alpha[-1][:, :-1], (1, 0), value=NEVER)
            alpha.append(torch.logaddexp(alpha[-1], moved) + log_obs[:, t])
        b = torch.arange(len(log_obs))
        total = torch.stack(alpha, 1)[b, batch.frames - 1, batch.states - 1]
        return _backward(total, log_obs)

    return Run(call, lambda answer: answer)


def dense(batch: Batch) -> Run:
    """The textbook's recursion in the log domain."""
    topology = _dense(batch)

    def call() -> Answer:
        log_obs = batch.log_obs.detach().requires_grad_()
        transition = topology.transition.detach().requires_grad_()
        alpha = topology.initial + log_obs[:, 0]
        for t in range(1, log_obs.shape[1]):
            alpha = torch.logsumexp(alpha[:, :, None] + transition, 1) + log_obs[:, t]
        return _backward(torch.logsumexp(alpha, 1), log_obs)

    return Run(call, lambda answer: answer)


def dense_scaled(batch: Batch) -> Run:
    """The same with probabilities, every frame scaled to sum to one: a matrix product per frame."""
    topology = _dense(batch)

    def call() -> Answer:
        log_obs = batch.log_obs.detach().requires_grad_()
        transition = topology.transition.exp().requires_grad_()
        top = log_obs.detach().amax(2, keepdim=True)
        emission = (log_obs - top).exp()
        alpha, masses = topology.initial.exp() * emission[:, 0], []
        for t in range(1, log_obs.shape[1]):
            masses.append(alpha.sum(1, keepdim=True))
            alpha = (alpha / masses[-1]) @ transition * emission[:, t]
        masses.append(alpha.sum(1, keepdim=True))
        return _backward(torch.cat(masses, 1).log().sum(1) + top.sum((1, 2)), log_obs)

    return Run(call, lambda answer: answer)


def _backward(total: Float[Tensor, "b"], log_obs: Float[Tensor, "b t n"]) -> Answer:
    total.sum().backward()
    assert log_obs.grad is not None
    return Answer(total.detach(), log_obs.grad)


def _dense(batch: Batch) -> Dense:
    assert isinstance(batch.topology, Dense)
    return batch.topology

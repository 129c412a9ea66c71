"""JAX, compiled: a banded scan as one would write it, and dynamax (Linderman et al. 2025)."""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmmtts.bench.batches import Answer, Batch
from hmmtts.bench.race import Run
from hmmtts.hmm import Dense

NEVER = -1e30
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def banded(batch: Batch) -> Run:
    jax = _jax()
    numpy = jax.numpy
    log_obs, frames, states = (numpy.asarray(x.numpy()) for x in (batch.log_obs, batch.frames, batch.states))

    def one(x, frames, states):
        start = numpy.full(x.shape[1:], NEVER).at[0].set(x[0, 0])

        def step(alpha, t):
            moved = numpy.concatenate([numpy.full((1,), NEVER), alpha[:-1]])
            new = numpy.logaddexp(alpha, moved) + x[t]
            return numpy.where(t < frames, new, alpha), None

        alpha, _ = jax.lax.scan(step, start, numpy.arange(1, x.shape[0]))
        return alpha[states - 1]

    def total(log_obs):
        log_z = jax.vmap(one)(log_obs, frames, states)
        return log_z.sum(), log_z

    both = jax.jit(jax.value_and_grad(total, has_aux=True))
    return Run(
        lambda: jax.block_until_ready(both(log_obs)), lambda out: Answer(_tensor(out[0][1]), _tensor(out[1]))
    )


def dynamax_gradient(batch: Batch) -> Run:
    jax = _jax()
    from dynamax.hidden_markov_model import hmm_filter

    initial, transition, log_obs = _dense(jax, batch)

    def total(log_obs, transition):
        log_z = jax.vmap(lambda x: hmm_filter(initial, transition, x).marginal_loglik)(log_obs)
        return log_z.sum(), log_z

    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    return Run(
        lambda: jax.block_until_ready(both(log_obs, transition)),
        lambda out: Answer(_tensor(out[0][1]), _tensor(out[1][0])),
    )


def dynamax_posteriors(batch: Batch) -> Run:
    jax = _jax()
    from dynamax.hidden_markov_model import hmm_smoother

    initial, transition, log_obs = _dense(jax, batch)

    def smooth(x):
        posterior = hmm_smoother(initial, transition, x)
        return posterior.marginal_loglik, posterior.smoothed_probs

    smoother = jax.jit(jax.vmap(smooth))
    return Run(
        lambda: jax.block_until_ready(smoother(log_obs)), lambda out: Answer(_tensor(out[0]), _tensor(out[1]))
    )


def _jax() -> Any:
    """On one thread of the CPU, like the others: read once, when JAX is first imported."""
    os.environ.setdefault("XLA_FLAGS", ONE_THREAD)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    return jax


def _dense(jax: Any, batch: Batch) -> tuple[Any, Any, Any]:
    assert isinstance(batch.topology, Dense)
    initial, transition = batch.topology.initial.exp(), batch.topology.transition.exp()
    return tuple(jax.numpy.asarray(x.numpy()) for x in (initial, transition, batch.log_obs))


def _tensor(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x))

"""The order of an epoch, alone and shared between workers."""

from __future__ import annotations

import pytest
import torch

from linearizer_core.experiment.data import epoch_order


@pytest.mark.parametrize("count", [1, 2, 103, 5000])
def test_an_epoch_visits_every_image_once(count: int) -> None:
    order = epoch_order(count, seed=3, epoch=5)
    assert order.dtype == torch.int64
    assert order.device.type == "cpu"
    assert sorted(order.tolist()) == list(range(count))


def test_order_is_fixed_by_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = epoch_order(1000, seed=3, epoch=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(epoch_order(1000, seed=3, epoch=5), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_seeds_and_epochs_have_unrelated_orders() -> None:
    keys = [(seed, epoch) for seed in (0, 1, 2, 11, 2**63 - 1) for epoch in (0, 1, 2, 11)]
    orders = torch.stack([epoch_order(1000, *key) for key in keys])
    same = (orders[:, None] == orders[None]).sum(2)
    same.fill_diagonal_(0)
    # Of two random permutations, Poisson(1) many places agree: 12 or more with probability below 1e-9.
    assert int(same.max()) < 12


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [96, 103])
def test_workers_share_an_epoch_evenly(count: int, workers: int) -> None:
    shards = [epoch_order(count, 1, 2, rank, workers) for rank in range(workers)]
    assert {len(shard) for shard in shards} == {count // workers}
    together = torch.cat(shards).tolist()
    assert len(set(together)) == len(together)
    assert set(together) == set(epoch_order(count, 1, 2)[: len(together)].tolist())


@pytest.mark.parametrize("workers", [2, 4])
def test_batches_of_all_workers_are_those_of_one(workers: int) -> None:
    size, alone = 12, epoch_order(103, 1, 2)
    shards = [epoch_order(103, 1, 2, rank, workers).split(size // workers) for rank in range(workers)]
    for i in range(103 // size):
        together = torch.cat([shard[i] for shard in shards])
        assert sorted(together.tolist()) == sorted(alone[i * size : (i + 1) * size].tolist())


@pytest.mark.parametrize(("rank", "workers"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_that_is_no_worker_is_refused(rank: int, workers: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} is not one of {workers} workers"):
        epoch_order(10, 0, 0, rank, workers)

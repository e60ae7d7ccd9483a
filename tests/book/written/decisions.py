"""Returns from rewards: at each step what is still to come."""

import torch

LABEL = "ex-decisions-to-come"
NAME = "to_come"

REWARDS = [[0.0, 2.0, 0.0, 8.0, 1.0], [1.0, 0.0, 0.0, 0.0, 3.0], [0.0, 0.0, 4.0, -1.0, 0.5]]


def check(function):
    found = function(torch.tensor(REWARDS))
    assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
    assert tuple(found.shape) == (3, 5), f"one return for each reward, (3, 5), got {tuple(found.shape)}"
    for rewards, got in zip(REWARDS, found.tolist(), strict=True):
        right = [sum(rewards[t:]) for t in range(5)]
        assert got != [sum(rewards[: t + 1]) for t in range(5)], "that is what has been got so far"
        assert got != [*right[1:], 0.0], "the reward of a step belongs to the return at that step"
        assert got == right, f"rewards {rewards}: expected {right}, got {got}"


def _to_come(rewards):
    return rewards.flip(1).cumsum(1).flip(1)


WRONG = {
    "what has been got so far": lambda rewards: rewards.cumsum(1),
    "the reward itself": lambda rewards: rewards,
    "all of it at every step": lambda rewards: rewards.sum(1, keepdim=True).expand_as(rewards),
    "from the next step on": lambda rewards: _to_come(rewards) - rewards,
    "turned round and left so": lambda rewards: rewards.flip(1).cumsum(1),
    "summed over the walks": lambda rewards: rewards.flip(0).cumsum(0).flip(0),
    "turned round in both axes": lambda rewards: rewards.flip(0, 1).cumsum(1).flip(1),
    "less what has been got": lambda rewards: rewards.sum(1, keepdim=True) - rewards.cumsum(1),
    "the mean of what comes": lambda rewards: _to_come(rewards) / torch.arange(5, 0, -1),
    "the best that comes": lambda rewards: rewards.flip(1).cummax(1).values.flip(1),
    "the next two steps": lambda rewards: rewards + torch.nn.functional.pad(rewards, (0, 1))[:, 1:],
}

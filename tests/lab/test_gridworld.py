"""The grid world: held against a walker written again, cell by cell, and against walks worked out by hand."""

import itertools

import pytest
import torch

from attnlib.lab import gridworld
from attnlib.lab.gridworld import (
    BEST,
    CELLS,
    CHESTS,
    FORK,
    STEPS,
    Grid,
    check_inputs,
    layouts,
    moved,
    optimum,
    recorded,
)
from attnlib.lab.tasks import IGNORED

UP, DOWN, LEFT, RIGHT = range(4)
CORRIDOR = [((2, column), (2, column + 1)) for column in range(4)]
NICHES = [((2, column), (row, column)) for row in (1, 3) for column in (1, 2, 3)]
ARMS = [((2, 4), (1, 4)), ((1, 4), (0, 4)), ((2, 4), (3, 4)), ((3, 4), (4, 4))]
STEP_OF = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}


def play(layout, actions):
    """One walk, from the passages above: what it sees, what it gets, where it is."""
    one, two, good = layout
    row_and_column = [(1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (3, 3)]
    coins = {row_and_column[one]: 1, row_and_column[two]: 2}
    chests = {(0, 4): 8 - 4 * good, (4, 4): 4 + 4 * good}
    open_ways = {*CORRIDOR, *NICHES, *ARMS}
    at, over, seen, rewards, path = (2, 0), False, [], [], [(2, 0)]
    for time, action in enumerate(actions):
        beside = []
        for way in (UP, DOWN):
            there = (at[0] + STEP_OF[way][0], at[1])
            joined = (at, there) in open_ways or (there, at) in open_ways
            beside.append(coins.get(there, 0) if joined else 0)
        seen.append((CELLS.index(at), *beside, good + 1 if time == 0 else 0))
        reward = 0
        if not over:
            there = (at[0] + STEP_OF[action][0], at[1] + STEP_OF[action][1])
            if (at, there) in open_ways or (there, at) in open_ways:
                at = there
            reward = coins.pop(at, 0) + chests.get(at, 0)
            over = at in chests
        rewards.append(reward)
        path.append(at)
    return seen, rewards, path


def test_one_may_go_where_there_is_a_way_and_nowhere_else():
    ways = {(CELLS[a], CELLS[moved(a, action)]) for a in range(len(CELLS)) for action in range(4)}
    both = {*CORRIDOR, *NICHES, *ARMS}
    assert {(a, b) for a, b in ways if a != b} == both | {(b, a) for a, b in both}
    for a, action in itertools.product(range(len(CELLS)), range(4)):
        (row, column), (there_row, there_column) = CELLS[a], CELLS[moved(a, action)]
        assert (there_row - row, there_column - column) in ((0, 0), STEP_OF[action])


def test_a_walk_that_gets_everything_by_hand():
    grid = Grid(torch.tensor([[1, 3, 0]]))  # coins: 1 above column 2, 2 below column 1; the good chest above
    walked = [RIGHT, DOWN, UP, RIGHT, UP, DOWN, RIGHT, RIGHT, UP, UP]
    seen, got = [], []
    for action in walked:
        seen.append(grid.observe()[0].tolist())
        got.append(grid.step(torch.tensor([action])).item())
    assert got == [0, 2, 0, 0, 1, 0, 0, 0, 0, 8]
    assert [state[1:] for state in seen[:6]] == [[0, 0, 1], [0, 2, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert grid.got.item() == BEST
    assert grid.over.item()
    assert grid.step(torch.tensor([DOWN])).item() == 0  # done
    assert CELLS[grid.cell.item()] == (0, 4)


def test_walks_are_those_of_the_walker_written_again():
    generator = torch.Generator().manual_seed(5)
    some = torch.cat([layouts(held_out=False), layouts(held_out=True)]).repeat(5, 1)
    actions = torch.randint(4, (len(some), STEPS), generator=generator)
    actions[::2] = torch.where(actions[::2] == LEFT, RIGHT, actions[::2])  # so that many reach a chest
    grid = Grid(some)
    seen, got = [], []
    for t in range(STEPS):
        seen.append(grid.observe())
        got.append(grid.step(actions[:, t]))
    for i, layout in enumerate(some.tolist()):
        expected, rewards, path = play(layout, actions[i].tolist())
        assert [tuple(state[i].tolist()) for state in seen] == expected
        assert [reward[i].item() for reward in got] == rewards
        assert [CELLS[cells[i]] for cells in grid.path] == path
        assert grid.got[i] == sum(rewards)
        assert grid.chest[i] == (CHESTS.index(CELLS.index(path[-1])) if CELLS.index(path[-1]) in CHESTS else -1)
    assert (grid.chest >= 0).sum() > 20
    assert grid.over.all()
    assert grid.step(torch.full((len(some),), RIGHT)).eq(0).all()  # a step too many
    assert grid.path[-1].equal(grid.path[-2])


def test_who_has_steps_left_and_no_chest_is_not_done():
    grid = Grid(layouts(held_out=True))
    for _ in range(STEPS - 1):
        grid.step(torch.full((12,), LEFT))
    assert not grid.over.any()


def test_layouts_held_out_are_others_and_every_coin_lies_everywhere():
    training, held_out = (set(map(tuple, layouts(held_out=which).tolist())) for which in (False, True))
    assert len(training) == 48
    assert len(held_out) == 12
    assert not training & held_out
    assert training | held_out == {(a, b, good) for a, b in itertools.permutations(range(6), 2) for good in (0, 1)}
    for coin in (0, 1):
        assert sorted(layout[coin] for layout in held_out if layout[2]) == list(range(6))


def test_what_is_recorded_is_what_was_still_to_come():
    some = layouts(held_out=False).repeat(4, 1)
    episodes = recorded(some, torch.Generator().manual_seed(1))
    for i, layout in enumerate(some.tolist()):
        actions = episodes.actions[i].tolist()
        made = [action for action in actions if action != IGNORED]
        seen, rewards, path = play(layout, [max(action, 0) for action in actions])
        assert actions == made + [IGNORED] * (STEPS - len(made))
        assert len(made) == STEPS or CELLS.index(path[len(made)]) in CHESTS
        assert episodes.returns[i].tolist() == [sum(rewards[t:]) for t in range(STEPS)]
        assert [tuple(state) for state in episodes.states[i].tolist()] == seen
    assert episodes.total.equal(episodes.returns[:, 0])


def test_a_batch_asks_for_each_action_and_pads_what_is_read():
    episodes = recorded(layouts(held_out=False), torch.Generator().manual_seed(1))
    (returns, states, actions), target = episodes.draw(40, torch.Generator().manual_seed(2))
    assert returns.shape == target.shape == (40, STEPS)
    assert states.shape == (40, STEPS, 4)
    assert (target == IGNORED).any()
    assert actions.equal(target.where(target != IGNORED, 0))
    assert {tuple(row) for row in target.tolist()} <= {tuple(row) for row in episodes.actions.tolist()}


def test_the_wanderer_does_not_care_for_the_sign():
    states = recorded(layouts(held_out=False), torch.Generator().manual_seed(1)).states.flatten(0, 1)
    other = states.clone()
    other[:, 3] = 2 - other[:, 3]
    first, second = (gridworld.wander(some, torch.Generator().manual_seed(3)) for some in (states, other))
    assert first.equal(second)
    here = torch.tensor([[FORK, 0, 0, 0]]).repeat(4_000, 1)
    chosen = gridworld.wander(here, torch.Generator().manual_seed(3))
    assert (chosen == UP).double().mean().item() == pytest.approx((chosen == DOWN).double().mean().item(), abs=0.04)


@pytest.mark.parametrize("layout", [(1, 3, 0), (0, 5, 1), (2, 5, 1)])
@pytest.mark.parametrize("steps", [0, 1, 4, 6])
def test_the_optimum_is_the_best_of_all_walks(layout, steps):
    assert optimum(layout, steps) == max(sum(play(layout, a)[1]) for a in itertools.product(range(4), repeat=steps))


def test_all_that_there_is_can_be_got_in_ten_steps_and_in_no_fewer():
    for layout in layouts(held_out=True).tolist():
        assert optimum(tuple(layout), 9) < optimum(tuple(layout), 10) == BEST == optimum(tuple(layout))


@pytest.mark.parametrize(
    ("returns", "state", "message"),
    [
        (float("nan"), [5, 0, 0, 1], "returns: expected finite numbers, got nan"),
        (float("inf"), [5, 0, 0, 1], "returns: expected finite numbers, got inf"),
        (8.0, [15, 0, 0, 0], "states: expected cell from 0 to 14, got 15"),
        (8.0, [-1, 0, 0, 0], "states: expected cell from 0 to 14, got -1"),
        (8.0, [5, 0, 3, 0], "states: expected below from 0 to 2, got 3"),
    ],
)
def test_what_is_no_number_and_who_is_outside_is_said(returns, state, message):
    with pytest.raises(ValueError, match=message):
        check_inputs(torch.tensor([[returns]]), torch.tensor([[state]]))
    check_inputs(torch.tensor([[8.0]]), torch.tensor([[[14, 2, 2, 2]]]))

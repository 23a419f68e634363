"""Deep Q-learning (Mnih et al. 2015) on a small Markov decision process whose optimum is known.

The world is an 8 × 8 field with walls and pits; moves slip to a side now and then. The chances of
all moves are known here, so value iteration gives the exact optimum, which the agent, who only sees
what happens, is compared with.

    python -m examples.models.dqn
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import graphc
from examples.models.parts import (
    Array,
    Model,
    Parameters,
    Tensor,
    dense,
    figure,
    parser,
    plot_losses,
)
from graphc import nn

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
MAP = """
S...#...
.#...#..
...P..#.
.#.#....
...#.P#.
.P....#.
.##.#...
...P..#G
""".split()
DISCOUNT = 0.97


@dataclass(frozen=True)
class World:
    """chances (states, actions, states), rewards (states, actions), whether an episode ends in a
    state (states,), and where it starts.
    """

    chances: Array
    rewards: Array
    ends: Array
    start: int

    @property
    def optimum(self) -> Array:
        """The best expected return from each state, by value iteration to convergence."""
        value = np.zeros(len(self.ends))
        while True:
            q = self.rewards + DISCOUNT * self.chances @ value
            new = np.where(self.ends, 0.0, q.max(axis=1))
            if np.abs(new - value).max() < 1e-12:
                return new
            value = new

    def value_of(self, actions: Array) -> Array:
        """The expected return from each state under a policy (states,) -> action, exactly."""
        states = np.arange(len(self.ends))
        going = np.where(self.ends, 0.0, 1.0)
        move = going[:, None] * self.chances[states, actions]
        reward = going * self.rewards[states, actions]
        return np.linalg.solve(np.eye(len(states)) - DISCOUNT * move, reward)


def world(slip: float = 0.1) -> World:
    """The Markov decision process of `MAP`: G is worth 1, P costs 1, each move 0.01."""
    rows, columns = len(MAP), len(MAP[0])
    count = rows * columns
    chances = np.zeros((count, len(MOVES), count))
    worth = np.zeros(count)
    ends = np.zeros(count, bool)
    for state in range(count):
        row, column = divmod(state, columns)
        sign = MAP[row][column]
        worth[state] = {"G": 1.0, "P": -1.0}.get(sign, 0.0)
        ends[state] = sign in "GP"
        for action in range(len(MOVES)):
            for turn, chance in ((0, 1 - 2 * slip), (1, slip), (-1, slip)):
                down, right = MOVES[(action + turn) % len(MOVES)]
                y, x = row + down, column + right
                free = 0 <= y < rows and 0 <= x < columns and MAP[y][x] != "#"
                chances[state, action, y * columns + x if free else state] += chance
    return World(chances, chances @ worth - 0.01, ends, start=0)


def network(p: Parameters, states: Tensor, count: int, hidden: int) -> Tensor:
    """states (n,) -> the value of each action (n, actions)"""
    x = nn.one_hot(states, count)
    x = nn.relu(dense(p, x, hidden, "dense1"))
    x = nn.relu(dense(p, x, hidden, "dense2"))
    return dense(p, x, len(MOVES), "values", gain=1.0)


@dataclass(frozen=True)
class Agent:
    """A model of action values with a second, older set of weights for what it learns towards."""

    model: Model
    older: Parameters

    @property
    def copies(self) -> dict[Tensor, Tensor]:
        """The updates that make the older weights the current ones."""
        return dict(zip(self.older.trained, self.model.parameters.trained, strict=True))


def build(count: int = 64, hidden: int = 64, seed: int = 0) -> Agent:
    """The agent for `count` states. A training step takes states, actions, rewards, next states and
    whether the episode ended there, each (batch,).
    """
    p, older = Parameters(seed), Parameters(seed)
    states = graphc.placeholder(("batch",), "int64", name="states")
    actions = graphc.placeholder(("batch",), "int64", name="actions")
    rewards = graphc.placeholder(("batch",), name="rewards")
    following = graphc.placeholder(("batch",), "int64", name="following")
    ended = graphc.placeholder(("batch",), "bool", name="ended")
    values = network(p, states, count, hidden)
    chosen = graphc.take_along_axis(values, actions[:, None], axis=1)[:, 0]
    # Double Q-learning (van Hasselt et al. 2015): the current weights choose, the older ones judge.
    best = graphc.argmax(network(p, following, count, hidden), axis=1)
    with graphc.name_scope("older"):
        judged = network(older, following, count, hidden)
    future = graphc.take_along_axis(judged, best[:, None], axis=1)[:, 0]
    target = graphc.stop_gradient(rewards + graphc.where(ended, 0.0, DISCOUNT * future))
    loss = graphc.mean(nn.huber(chosen, target))
    fed = (states, actions, rewards, following, ended)
    return Agent(Model("dqn", p, (states,), {"values": values}, fed, loss), older)


class Memory:
    """The last `size` moves, drawn from at random."""

    def __init__(self, size: int) -> None:
        kinds = (np.int64, np.int64, np.float32, np.int64, np.bool_)
        self._columns = [np.zeros(size, kind) for kind in kinds]
        self._size = size
        self.count = 0

    def add(self, *move: float) -> None:
        """One move: state, action, reward, next state, whether the episode ended."""
        for column, value in zip(self._columns, move, strict=True):
            column[self.count % self._size] = value
        self.count += 1

    def draw(self, count: int, rng: np.random.Generator) -> list[Array]:
        """`count` moves, each column an array."""
        chosen = rng.integers(0, min(self.count, self._size), count)
        return [column[chosen] for column in self._columns]


def learn(
    session: graphc.Session, agent: Agent, field: World, steps: int, batch: int, seed: int
) -> tuple[list[float], graphc.Function]:
    """`steps` moves in the world with a training step after each; the losses, and the function of
    the action values.
    """
    model, rng = agent.model, np.random.default_rng(seed)
    weights = model.parameters.trained
    count = graphc.optimizers.step_variable()
    rate = 1e-3 * graphc.maximum(1.0 - graphc.astype(count, "float32") / float(steps), 0.05)
    updates = graphc.optimizers.adam(weights, graphc.grad(model.loss, weights), rate)
    updates[count] = count + 1
    train = session.function(model.fed, model.loss, updates=updates)
    values = session.function(model.inputs, model.outputs)
    copy = session.function([], [], updates=agent.copies)
    memory, losses = Memory(20_000), []
    state = field.start
    everywhere = np.flatnonzero(~field.ends)
    for k in tqdm(range(steps), desc="dqn", unit="step"):
        if k % 200 == 0:
            copy()
        explore = max(0.1, 1.0 - 2.0 * k / steps)
        if rng.random() < explore:
            action = int(rng.integers(len(MOVES)))
        else:
            action = int(np.argmax(values(np.array([state]))["values"]))
        following = int(rng.choice(len(field.ends), p=field.chances[state, action]))
        ended = bool(field.ends[following])
        # The reward that was seen: of the state that was reached, less the cost of the move.
        reward = (1.0 if MAP[following // 8][following % 8] == "G" else -1.0) if ended else 0.0
        memory.add(state, action, reward - 0.01, following, ended)
        # Episodes start anywhere, so that all of the world is seen.
        state = int(rng.choice(everywhere)) if ended or rng.random() < 0.02 else following
        if memory.count >= batch:
            losses.append(float(train(*memory.draw(batch, rng))))
    return losses, values


def plot(field: World, actions: Array, value: Array, path: Path) -> None:
    made, axes = figure(5.2, 4.6)
    shown = axes.imshow(value.reshape(8, 8), cmap="viridis")
    made.colorbar(shown, ax=axes, label="expected return")
    for state, action in enumerate(actions):
        row, column = divmod(state, 8)
        sign = MAP[row][column]
        if sign in "#GP":
            axes.text(column, row, sign, ha="center", va="center", color="white")
            continue
        down, right = MOVES[action]
        arrow = {"head_width": 0.2, "color": "white", "length_includes_head": True}
        axes.arrow(column - 0.3 * right, row - 0.3 * down, 0.6 * right, 0.6 * down, **arrow)
    axes.set(xticks=[], yticks=[], title="the learned policy and its worth")
    made.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=40_000, batch=64).parse_args(arguments)
    field, agent = world(), build(seed=options.seed)
    with graphc.Session() as session:
        given = (options.steps, options.batch, options.seed)
        losses, values = learn(session, agent, field, *given)
        actions = np.argmax(values(np.arange(len(field.ends)))["values"], axis=1)
        graph = values.graph
    folder = options.output or Path("out/models/dqn")
    folder.mkdir(parents=True, exist_ok=True)
    graph.save(folder / "dqn.graphc")
    plot_losses(losses, folder / "loss.png")
    own, best = field.value_of(actions), field.optimum
    plot(field, actions, own, folder / "policy.png")
    print(f"parameters: {agent.model.parameters.count:,}")
    print(f"expected return from the start: {own[0]:.4f}; of the best policy: {best[0]:.4f}")
    free = np.array([sign not in "#GP" for row in MAP for sign in row])
    print(f"mean over all fields: {own[free].mean():.4f}; best: {best[free].mean():.4f}")
    return 0 if own[0] > 0.7 * best[0] or options.steps < 30_000 else 1


if __name__ == "__main__":
    sys.exit(main())

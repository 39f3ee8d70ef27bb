"""Other people's action values in the form in which the heavier probes read an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlop.config.checks import check_range
from rlop.probes.heavy import BETWEEN_RUNS, PROBES, check_probes, pack
from rlop.probes.hook import eval_mode
from rlop.probes.model import AgentView
from rlop.runs import Runs, expand
from rlop.types import Batch, InputError, Spec


def transitions(
    obs: Tensor,
    action: Tensor,
    reward: Tensor,
    next_obs: Tensor,
    terminated: Tensor,
    discount: Tensor | None = None,
) -> Batch:
    """Put n transitions into the form of the probes, one run of them.

    Args:
        obs: `[n, ...]`, as the network reads it; whole numbers become float32 of the same value,
            so that slopes of images as bytes are per raw unit, see `rlop.probes.pack`.
        action: whole numbers `[n]` or `[n, 1]`, or continuous ones `[n, m]`.
        reward, terminated: `[n]` or `[n, 1]`; a time-out does not terminate.
        next_obs: shaped like `obs`.
        discount: gamma^(k-1) for rewards over k steps, `[n]` or `[n, 1]`; None for one step.
    Returns:
        Every field with a leading axis of R = 1.
    Raises:
        InputError: for fields whose shapes do not fit.
    """
    count = len(obs)
    if next_obs.shape != obs.shape:
        raise InputError(f"next_obs: expected {tuple(obs.shape)}, got {tuple(next_obs.shape)}")
    columns = {"reward": reward, "terminated": terminated}
    columns["discount"] = torch.ones(count, device=obs.device) if discount is None else discount
    if not action.is_floating_point():
        columns["action"] = action
    for name, column in columns.items():
        if column.shape not in ((count,), (count, 1)):
            raise InputError(f"{name}: expected [{count}], got {tuple(column.shape)}")
    if action.ndim < 1 or len(action) != count:
        raise InputError(f"action: expected [{count}, ...], got {tuple(action.shape)}")

    flat = {name: column.reshape(1, count).float() for name, column in columns.items()}
    actions = action.float() if action.is_floating_point() else action.reshape(count).long()
    return Batch(
        obs=obs.float().unsqueeze(0),
        action=actions.unsqueeze(0),
        reward=flat["reward"],
        next_obs=next_obs.float().unsqueeze(0),
        terminated=flat["terminated"],
        discount=flat["discount"],
        index=torch.arange(count, device=obs.device).unsqueeze(0),
        extra={},
    )


class Stack(nn.Module):
    """Copies of a network's parameters with the axis R = 1, or `[R, E]` for E critics.

    The head's parameters come last, as those of our networks do. Nothing is run but the original
    modules, on the parameters that stand here at the time, and nothing in them is changed.

    Args:
        networks: Q(s, .) of discrete actions, or E critics Q(s, a) of one architecture.
        head: name of the `nn.Linear` of each that reads the features.
        discrete: whether actions are.
    Raises:
        InputError: for a head that does not exist, or critics of different architectures.
    """

    def __init__(self, networks: Sequence[nn.Module], head: str, discrete: bool) -> None:
        super().__init__()
        self._networks = tuple(networks)  # in a tuple, so that they are no part of this module
        self._discrete = discrete
        self._heads = [_head_of(network, head) for network in networks]

        first, *others = [dict(network.named_parameters()) for network in networks]
        self._names = sorted(first, key=lambda name: name.startswith(f"{head}."))
        shapes = {name: p.shape for name, p in first.items()}
        for other in others:
            if {name: p.shape for name, p in other.items()} != shapes:
                raise InputError("critics: expected networks of one architecture")

        self.torso, self.head = nn.Module(), nn.Module()
        for name in self._names:
            values = torch.stack([first[name], *(other[name] for other in others)]).detach()
            stacked = nn.Parameter(values if discrete else values.unsqueeze(0), False)
            module, key = self._place(name)
            module.register_parameter(key, stacked)

    def forward(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return features and values.

        Args:
            obs: `[1, n, ...]`.
            action: `[1, n, m]` for critics.
        Returns:
            `[1, n, D]` and `[1, n, A]`, or `[1, E, n, D]` and `[1, E, n]`.
        Raises:
            InputError: for outputs of another shape.
        """
        inputs = (obs[0],) if action is None else (obs[0], action[0])
        results = [self._run(number, inputs) for number in range(len(self._networks))]
        features = torch.stack([phi for phi, _ in results])
        values = torch.stack([q for _, q in results])
        return (features, values) if self._discrete else (features[None], values[None])

    def _run(self, number: int, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return what the head of one network reads, `[n, D]`, and its values."""
        network = self._networks[number]
        parameters = {}
        for name in self._names:
            module, key = self._place(name)
            stacked = getattr(module, key)  # within a functional call a plain tensor
            parameters[name] = stacked[number] if self._discrete else stacked[0, number]

        read: list[Tensor] = []
        hook = self._heads[number].register_forward_pre_hook(lambda _, args: read.append(args[0]))
        try:
            with eval_mode(network):
                values = functional_call(network, parameters, inputs)
        finally:
            hook.remove()

        count = len(inputs[0])
        name = type(network).__name__
        expected = "[n, A]" if self._discrete else "[n] or [n, 1]"
        fits = isinstance(values, Tensor) and values.shape[:1] == (count,)
        if fits and not self._discrete:
            fits = values.numel() == count
            values = values.flatten()
        if not fits or (self._discrete and values.ndim != 2):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(f"{name}: expected values {expected} of {count} rows, found {found}")
        if len(read) != 1 or read[0].ndim != 2:
            raise InputError(f"{name}: expected a head that reads features [n, D] once")
        return read[0], values

    def _place(self, name: str) -> tuple[nn.Module, str]:
        """Return where a parameter of the networks stands here: which module, and its name."""
        layer, _, key = name.rpartition(".")
        is_head = self._networks[0].get_submodule(layer) is self._heads[0]
        # A dot would separate modules.
        return (self.head, key) if is_head else (self.torso, name.replace(".", "/"))


def _head_of(network: nn.Module, name: str) -> nn.Linear:
    head = dict(network.named_modules()).get(name)
    if not isinstance(head, nn.Linear):
        raise InputError(f"head = {name!r}: no nn.Linear of {type(network).__name__}")
    return head


class _NoTarget(nn.Module):
    """In place of a target network that a training does not have."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Say what is missing."""
        raise InputError("expected a target network (or the network itself as `target`)")


@dataclass(frozen=True)
class Snapshot:
    """Networks at one moment of a training, see `rlop.probes.model.ValueLearner`."""

    online: nn.Module
    target: nn.Module
    initial: Mapping[str, Tensor]

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Parameters of the online network."""
        return dict(self.online.named_parameters())


class ActionValues:
    """Action values of another training, for `rlop.probes.pack` and the probes during it.

        values = ActionValues(q_network, Spec((4,), n_actions=2), gamma=0.99, target=target_network)
        rows = transitions(obs, action, reward, next_obs, terminated)
        rlop.probes.pack(values, rows, ["kernel/min_eig", "seem/eigenvalue"])

    The networks run on their own parameters as they are at that time, in eval mode, and are not
    changed. What they were when this object was made counts as their initialization.

    Args:
        networks: a module obs `[n, ...]` -> Q(s, .) `[n, A]`, or for continuous actions a critic
            (obs, action) -> `[n]` or `[n, 1]`, or a sequence of critics of one architecture.
        spec: shape of observations, and the number of discrete actions or their shape.
        gamma: discount factor.
        target: the target network or networks; None if there is none, which `kernel/kare` needs.
        policy: obs `[n, ...]` -> deterministic actions `[n, m]`, for continuous actions.
        head: name of the `nn.Linear` that reads the features; None for the one declared last.
    Raises:
        InputError: for networks and options that do not fit.
    """

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        spec: Spec,
        gamma: float,
        target: nn.Module | Sequence[nn.Module] | None = None,
        policy: Callable[[Tensor], Tensor] | None = None,
        head: str | None = None,
    ) -> None:
        check_range("gamma", gamma, low=0, high=1)
        self.spec = spec
        self.runs: Runs = expand({"gamma": gamma})
        self.networks = _several(networks)
        self.targets = None if target is None else _several(target)
        self.policy = policy

        discrete = spec.n_actions is not None
        if discrete and len(self.networks) != 1:
            raise InputError(f"networks: expected one of all actions, got {len(self.networks)}")
        if not discrete and policy is None:
            raise InputError("policy: expected one, for critics of continuous actions")
        self.head = head or last_linear(self.networks[0])
        self.device = next(self.networks[0].parameters()).device

        start = Stack(self.networks, self.head, discrete)
        self._initial = {name: p.detach() for name, p in start.named_parameters()}

    @property
    def main(self) -> Snapshot:
        """The networks as they are now."""
        discrete = self.spec.n_actions is not None
        target: nn.Module = _NoTarget()
        if self.targets is not None:
            target = Stack(self.targets, self.head, discrete)
        return Snapshot(Stack(self.networks, self.head, discrete), target, self._initial)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """Return greedy actions, `[1, n]` or `[1, n, m]`, for observations `[1, n, ...]`."""
        if self.policy is not None:
            return self.policy(obs[0]).unsqueeze(0)
        return self.main.online(obs)[1].argmax(-1)

    @torch.no_grad()
    def encode(self, obs: Tensor) -> Tensor:
        """Return observations, which the network reads as they are."""
        return obs

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return phi(s, a) and phi(s', a'), `[1, n, D]` or `[1, E, n, D]` each."""
        online = self.main.online
        if self.spec.n_actions is not None:
            return online(batch.obs)[0], online(batch.next_obs)[0]
        next_action = self.act(batch.next_obs)
        return online(batch.obs, batch.action)[0], online(batch.next_obs, next_action)[0]

    def action_values(self, outputs: Tensor) -> Tensor:
        """Return the outputs of the network, which are action values `[..., A]` already."""
        return outputs


def last_linear(network: nn.Module) -> str:
    """Return the name of the linear layer that a network declares last.

    Raises:
        InputError: it has none.
    """
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise InputError(f"{type(network).__name__}: expected a linear layer that reads features")
    return names[-1]


def _several(networks: nn.Module | Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    several = (networks,) if isinstance(networks, nn.Module) else tuple(networks)
    if not several or not all(isinstance(network, nn.Module) for network in several):
        raise InputError("networks: expected modules of PyTorch, at least one")
    return several


class HeavierProbes:
    """Probes of `rlop.probes.pack` that were tried once and can be repeated.

    Args:
        values: the training's action values.
        rows: the fixed batch, from `transitions`.
        names: keys of `rlop.probes.heavy.PROBES`.
        size: see `rlop.probes.pack`.
    Raises:
        InputError: naming a probe that does not exist, or that cannot be taken of these networks.
    """

    def __init__(
        self,
        values: ActionValues,
        rows: Batch,
        names: Sequence[str],
        size: int = 16,
    ) -> None:
        check_names(names, discrete=values.spec.n_actions is not None)
        check_range("size", size, low=1)
        self.values, self.rows, self.names, self.size = values, rows, tuple(names), size

        view = AgentView(values, rows, size)
        for name in names:
            try:
                PROBES[name](view)
            # Layers that cannot be run on other parameters, or differentiated by rows.
            except (ValueError, RuntimeError, LookupError) as error:
                why = str(error).strip().splitlines() or [type(error).__name__]
                raise InputError(f"probe {name!r}: cannot be taken here, {why[0]}") from error

    def __call__(self) -> dict[str, float]:
        """Measure the networks as they are now."""
        measures = pack(self.values, self.rows, self.names, self.size)
        return {name: value.item() for name, value in measures.items()}


def check_names(names: Sequence[str], discrete: bool) -> None:
    """Refuse probes that have no meaning for the actions, or for one run.

    Args:
        names: of probes.
        discrete: whether actions are.
    Raises:
        InputError: naming the probe.
    """
    check_probes(names, discrete, "this training")
    for name in names:
        if name in BETWEEN_RUNS:
            raise InputError(f"probe {name!r}: compares several runs, expected one of a single run")

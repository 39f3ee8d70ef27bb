"""What the doctor says: each disease in words, its first remedy, and what nobody may conclude."""

from __future__ import annotations

from dataclasses import dataclass

CAVEATS = (
    "No rank predicts a return: runs with healthy features earned nothing, and others with a low "
    "rank earned much (arXiv:2207.02099).",
    "High values do not make a bad policy: conservative agents overstate the data's actions and "
    "act well.",
    "Each finding is of one run; another seed may differ. There is no overall score.",
)


@dataclass(frozen=True)
class Words:
    """Sentences for one disease.

    Args:
        sick: what is said when it is there.
        watch: what is said when it may be coming.
        remedy: options of `rlop train` to try first; empty where the data are to be changed.
        advice: the remedy in words, for networks that were not trained here.
        transform: command for the data, if the remedy is one.
    """

    sick: str
    watch: str
    remedy: str
    advice: str
    transform: str = ""


WORDS: dict[str, Words] = {
    "rank collapse": Words(
        "The features use far fewer directions than before training.",
        "The features use fewer directions than before training.",
        "--agent.regularizers.dr3 0.03",
        "add rlop.dr3(phi, phi_next) to the loss, or rlop.max_norm_ after the optimizer's step",
    ),
    "dormant units": Words(
        "Most units hardly respond to any state.",
        "Many units hardly respond to any state.",
        "--agent.layer_norm true",
        "normalize each layer before its activation, or recycle dormant units",
    ),
    "alignment": Words(
        "The features of consecutive states have grown together: they point the same way.",
        "The features of consecutive states are growing together.",
        "--agent.regularizers.dr3 0.03",
        "add rlop.dr3(phi, phi_next) to the loss",
    ),
    "feature growth": Words(
        "The features have grown.",
        "The features are many times as long as before training.",
        "--agent.projections.max_norm 7",
        "apply rlop.max_norm_ after the optimizer's step",
    ),
    "divergence": Words(
        "Values exceed what any policy can earn, or the run had to be frozen.",
        "Values reach the largest that any policy can earn.",
        "--agent.layer_norm true",
        "normalize each layer before its activation, or update the target network less often",
    ),
    "over-estimation": Words(
        "The data's actions are valued above the best return that the data hold.",
        "The data's actions are valued far above the returns that followed them.",
        "--agent.backup double",
        "use double Q-learning, the lower of two critics, or a larger conservative weight",
    ),
    "over-conservatism": Words(
        "The data's actions are valued below the worst return that the data hold.",
        "Random actions are valued far below the worst return that the data hold.",
        "--agent.alpha 0.1",
        "lower the conservative weight",
    ),
    "values outside the data": Words(
        "The policy's actions are valued far above those that the data support.",
        "The policy's actions are valued well above those that the data support.",
        "--agent.alpha 1",
        "raise the conservative weight, or constrain the policy to the data",
    ),
    "moving target": Words(
        "The target moves.",
        "The target still moved in the last quarter of the training.",
        "--steps 200000",
        "train longer, or lower the learning rate",
    ),
    "policy on the bound": Words(
        "The policy sits at the end of the range of actions, where its gradient vanishes.",
        "The policy reaches the end of the range of actions.",
        "--agent.alpha 5",
        "raise the conservative weight or the entropy's; check that the action's bounds are right",
    ),
    "lost plasticity": Words(
        "Within a budget of steps the network learns something new much worse than a fresh one.",
        "The network learns something new more slowly than a fresh one.",
        "--agent.resets.kind shrink_and_perturb --agent.resets.every 10000",
        "lower the learning rate, or shrink the weights toward a new draw now and then",
    ),
    "constant rewards": Words(
        "Every reward is the same: only how long an episode lasts can be learned.",
        "",
        "",
        "check which array of the file holds the rewards",
        "rlop info {data}",
    ),
    "missing ends": Words(
        "No row ends an episode, so that values flow from one episode into the next.",
        "Hardly any row ends an episode.",
        "",
        "mark terminations and time-outs",
        "rlop info {data}",
    ),
    "single behavior": Words(
        "In each state the data hold one action: nothing says what another would have earned.",
        "In most states the data hold one action only.",
        "",
        "clone the behavior, or mix in data of other policies",
        "rlop info {data}",
    ),
}


def sentence(disease: str, level: str) -> str:
    """Return what is said of a disease at a level; nothing unless it is watched or sick."""
    words = WORDS[disease]
    return {"sick": words.sick, "watch": words.watch}.get(level, "")


def remedy(disease: str, config: str | None, data: str | None) -> str:
    """Return the first remedy: a command if the training's configuration is known, else advice.

    Args:
        disease: its name.
        config: path of the configuration, quoted for a shell; None for networks trained elsewhere.
        data: name of the data set, quoted for a shell, if known.
    """
    words = WORDS[disease]
    if words.transform:
        command = words.transform.format(data=data) if data else ""
    else:
        command = f"rlop train {config} {words.remedy}" if config else ""
    return f"{command}    # {words.advice}" if command else words.advice

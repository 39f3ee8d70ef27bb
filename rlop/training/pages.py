"""The help page of a configuration and the JSON schema of all, generated from the types."""

from __future__ import annotations

from rlop.config.help import function_page, options_page, summary
from rlop.config.json_schema import Schema, SchemaWriter
from rlop.training.options import Experiment

TRAIN = """usage: rlop train CONFIG.yaml [--key value ...]
       rlop train --resume RUN [--key value ...]

Train the agent of a configuration; print its metrics and where the logs are.

  --agent.lr 1e-3        any key of the configuration, dotted
  --agent.lr 1e-3 3e-4   several values are trained side by side
  --resume RUN           continue the training in a folder with the very same numbers
  --fork NEW             with --resume: go on in another folder under changed options
  --help                 with CONFIG.yaml: every option of its agent and data as well
  --dry-run              print the runs, memory and time; train nothing, write nothing
  --schema               print the JSON schema of configurations
  --quiet, --verbose     fewer, or more messages on stderr
"""
DEMO = """usage: rlop demo [CONFIG.yaml] [--key value ...]

Train DQN and CQL on a small gridworld, alone and with each of two treatments, DR3 and max-norm;
print their metrics and draw their curves. About two minutes on two cores.

  --seeds 2              any key of the configuration, dotted
  --agent.lr 1e-3 3e-4   several values are trained side by side
  --help                 every option of the agent and the data
  --quiet, --verbose     fewer, or more messages on stderr
"""
USAGES = {"train": TRAIN, "demo": DEMO}


def general_page(command: str = "train") -> str:
    """Return the help page of a command without a configuration.

    Args:
        command: one of `USAGES`.
    """
    return "\n".join([USAGES[command].rstrip(), *options_page(Experiment, "")])


def page_of(experiment: Experiment, command: str = "train") -> str:
    """Return the help page of a configuration: also the options of its agent and data.

    Args:
        experiment: the configuration.
        command: one of `USAGES`.
    """
    from rlop.data.formats.embedded import BUILDERS
    from rlop.data.formats.generate import generate
    from rlop.data.load import find_reader, load_dataset
    from rlop.data.options import split_query
    from rlop.data.transforms import TRANSFORMS
    from rlop.training.names import agent_class
    from rlop.training.run import agent_name

    agent = agent_class(agent_name(experiment))
    lines = [general_page(command), "", f"data: {experiment.data}"]
    lines += function_page(find_reader(experiment.data), "data_options")
    lines += function_page(load_dataset, "data_options")
    name, _ = split_query(experiment.data)
    if name in BUILDERS:  # takes the options of its environment and of the policy that acts in it
        lines += function_page(BUILDERS[name], "data_options", given=0)
        lines += function_page(generate, "data_options")
    for name, function in TRANSFORMS.items():
        lines += function_page(function, f"transforms.{name}")

    lines += ["", f"agent: {agent.__name__}. {summary(agent)}"]
    lines += options_page(agent.Config, "agent")
    return "\n".join(lines)


def configuration_schema() -> Schema:
    """Return the JSON schema of configuration files."""
    from rlop.training.names import agent_class, agent_names
    from rlop.training.run import DEFAULT_AGENT

    writer = SchemaWriter()
    schema = writer.of_class(Experiment)
    configs = {name: agent_class(name).Config for name in agent_names()}
    of_agents = writer.one_of_classes(configs, "name", DEFAULT_AGENT)
    of_agents["description"] = schema["properties"]["agent"]["description"]
    schema["properties"]["agent"] = of_agents
    return writer.document(schema, "Configuration of `rlop train`")

"""Two directives of the site: tables that follow from the code, or from docs/BASELINES.md.

```{options} rlop.regularizers:DR3
```
```{measured} dr3; cosine
```
"""

from __future__ import annotations

import generated
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HOW_TO_READ = (
    "Mean and half a 95 % Student-t interval over eight seeds after 2,500 updates, at the best of "
    "three strengths (in parentheses), which was chosen on the same seeds and so is partly luck. "
    "**Above** and **below** mark intervals that do not meet the plain agent's; without a word, "
    "nothing was found."
)


class Options(SphinxDirective):
    """A table of the options of a class, or of some of them."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parse_text_to_nodes(generated.options_table(self.arguments[0]))


class Measured(SphinxDirective):
    """Rows of docs/BASELINES.md, several separated by semicolons, and how to read them."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table and the text."""
        names = [name.strip() for name in self.arguments[0].split(";")]
        return self.parse_text_to_nodes(f"{generated.measured_table(names)}\n\n{HOW_TO_READ}")

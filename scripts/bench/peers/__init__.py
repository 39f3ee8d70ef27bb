"""One file per library: its buffer and its update, with the settings closest to the common problem.

Each is imported only when its library is measured; its docstring lists the differences.
"""

"""One file per library: its buffer and its update, with settings nearest to the common work.

Each is imported only when its library is to be measured; its docstring says what it does
differently.
"""

"""One file per library: its own buffer, its own update, with settings nearest to the common work.

Each is imported only when its library is to be measured; its docstring says what it does
differently.
"""

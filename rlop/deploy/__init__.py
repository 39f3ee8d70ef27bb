"""What comes out of a training: a policy that acts in its environment, and files of it.

`rlop.load_policy` is the way in. `policy` is what acts, `observations` what it reads, `spaces` its
environment; `graph` is the same computation in PyTorch, `files` writes it, `card` describes it.
"""

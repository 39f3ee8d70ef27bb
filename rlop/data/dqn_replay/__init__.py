"""Replay logs in the layout of the DQN Replay Dataset: files, parts, stacks, storage, window."""

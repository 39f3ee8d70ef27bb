"""Replay logs in the layout of the DQN Replay Dataset: files, parts, stacked frames, storage, rolling window."""

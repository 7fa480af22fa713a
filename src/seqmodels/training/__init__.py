"""Training: tasks, clipping, schedules, checkpoints and callbacks.

This file imports nothing, so that configurations can be checked without loading Lightning.
"""

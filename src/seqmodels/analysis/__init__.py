"""Cells and trained models under the microscope. Below training: callbacks may use it."""

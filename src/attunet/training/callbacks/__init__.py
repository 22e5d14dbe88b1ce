"""Callbacks of lightning's trainer: schedule, history, validation, gate statistics, attention frames, progress."""

"""Who decides: the stage of each channel kind, its sources, the ramp and the guard. Imports nothing of ours.

The package re-exports nothing: import `flags.stage` and its siblings by name, so that the import contracts see
which part is used.
"""

"""Figures of docs/explanation/performance.md, each by one command, everything on loopback.

What is compared runs side by side in the same rounds, in reversed order every second round; the ratios within a round
are the result. Absolute rates say more about the machine and its other load than about anything here.
"""

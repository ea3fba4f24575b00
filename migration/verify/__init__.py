"""Proof that an import is complete, and its repair."""

from migration.verify.report import Difference, Report, Side, Tally
from migration.verify.verify import SAMPLE, Verify

__all__ = ["SAMPLE", "Difference", "Report", "Side", "Tally", "Verify"]

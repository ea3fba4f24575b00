"""Catch-up with a live source by its change stream."""

from migration.watermark.follow import Follow, Following, HistoryTooShort, warnings

__all__ = ["Follow", "Following", "HistoryTooShort", "warnings"]

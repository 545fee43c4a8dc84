"""A comparison as one HTML file: it opens without a network, prints, and says how each number came about."""

from kdcore.report.page import html

__all__ = ["html"]

"""Encoders: their sizes, where they come from, how students are made of them, and the look inside."""

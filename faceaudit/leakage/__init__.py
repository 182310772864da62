"""Duplicates and label conflicts, within a set of images and across sets."""

"""Fixtures for tests with sound devices."""

from tests.sound_card import sound_card

__all__ = ["sound_card"]

"""What all growth operators' options have in common."""

from __future__ import annotations

from corpusmith.config import Config


class GrowthOptions(Config):
    """Base of all growth operators' options."""

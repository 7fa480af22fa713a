"""Recurrent sequence models: write the equation, get everything else.

Importing this package is cheap: torch is loaded only by the subpackages that need it.
"""

__version__ = "0.1.0"

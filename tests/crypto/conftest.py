"""Settings shared by the tests of sovereign_crypto."""

from hypothesis import settings

# Shared machines stall for longer than Hypothesis' default deadline.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

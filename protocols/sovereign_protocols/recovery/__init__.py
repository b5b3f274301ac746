"""The identity record: what a recovery kit, or any device of an identity, opens to bring everything back."""

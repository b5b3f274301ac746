"""The storage market: offers, contracts, prices.

An *offer* is what a provider asks for, signed and short-lived. A *contract* is one set of *terms* that customer and
provider both signed; its id is the hash of the first terms, later *revisions* replace them. `prices` holds the only
arithmetic on money; both sides run it and must agree to the last micro-VIBE.
"""

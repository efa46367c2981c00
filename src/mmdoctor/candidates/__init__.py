"""What could be chosen for each part of the stack, and what speaks against the rest. Pure.

Each module yields the candidates that hold under every rule that concerns its part alone, and hands each rejected one
to `Situation.reject` with the fact that rejected it. `resolve.py` couples the parts and picks by cost.
"""

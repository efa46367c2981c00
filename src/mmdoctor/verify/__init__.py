"""Measures one combination: installs it literally in a throwaway environment, smokes it, keeps the evidence."""

"""Bridges between populations: pinned paths of pairs, a drift that is matched to them, new pairs by its steps.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233.
"""

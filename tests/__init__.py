"""Tests of feller; what checks shapes in them is loaded before feller is."""

from tests import shapes as shapes

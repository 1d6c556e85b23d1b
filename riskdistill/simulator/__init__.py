"""Simulated payment traffic with laundering in it: seeded, reproducible, and hard to game by a single column.

config ─► population ─► habits of households and firms ─┐
                    └─► schemes placed among them ──────┴─► drift ─► canonical tables
"""

from riskdistill.simulator.config import PRESETS, Drift, SimulationConfig
from riskdistill.simulator.simulation import Simulated, simulate, write

__all__ = ["PRESETS", "Drift", "Simulated", "SimulationConfig", "simulate", "write"]

"""Simulated payment traffic with laundering in it: seeded, reproducible, and hard to game by a single column.

config ─► population ─► habits of households and firms ─┐
                    └─► schemes placed among them ──────┴─► drift ─► ledger ─► canonical tables, week by week
"""

from riskdistill.simulator.config import PRESETS, Drift, Recording, SimulationConfig
from riskdistill.simulator.simulation import simulate, stream, write
from riskdistill.simulator.tables import Simulated

__all__ = ["PRESETS", "Drift", "Recording", "Simulated", "SimulationConfig", "simulate", "stream", "write"]

"""(spec, states, what is deployed) → Plan: pure, and it prints itself. Every step says why it is there."""

from orchestrator.plan.aside import plan_back
from orchestrator.plan.step import Plan, Step
from orchestrator.plan.traffic import chosen_routes, next_command, plan_cutover, plan_down, plan_rollback
from orchestrator.plan.up import images, plan_up

__all__ = [
    "Plan", "Step", "chosen_routes", "images", "next_command", "plan_back", "plan_cutover", "plan_down",
    "plan_rollback", "plan_up",
]  # fmt: skip

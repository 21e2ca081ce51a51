"""How fast the program is: medians and ratios to plain ssh, on lab nodes, in one run.

Ratios, not seconds, because seconds say more about the machine than about the program.
"""

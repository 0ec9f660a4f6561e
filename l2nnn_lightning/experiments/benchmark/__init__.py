"""What things cost, as ratios measured side by side in one run.

Each part is a module of its name with a function ``run(options, device)``, which measures and returns a list of rows.
"""

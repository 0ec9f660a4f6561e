"""How far a computed signal can be from the exact one, layer by layer, as a theorem; see docs/guarantees.md, part 4."""

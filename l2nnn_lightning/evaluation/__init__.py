"""What a checkpoint proves and what attacks leave of it: measured, reported, tracked, exported, predicted with."""

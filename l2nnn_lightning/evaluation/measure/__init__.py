"""From a classifier and images to records, and from records to every number."""

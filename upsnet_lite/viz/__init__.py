"""Pictures of every tensor: `colors` and `labels` are pure numpy, `plots` draws figures, `gallery` writes a page."""

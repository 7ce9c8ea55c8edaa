"""Show an app's counters live on a page: see App.inspect."""

"""An index of photos: vectors by path on disk, the nearest of a query, and keeping it in step with a folder."""

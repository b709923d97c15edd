"""The web page of the search: a small server of one's own photos, on this machine."""

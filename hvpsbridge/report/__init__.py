"""Reports: one JSON truth of a run, and views of it.

``truth`` holds the typed, versioned document; everything people and machines are shown is taken from it,
so that no view can say more, or something else, than the document does.
"""

"""Getting space back: doomed lists, fences of dead runs, and collects."""

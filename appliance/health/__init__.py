"""What several processes judge alike: is it well, what happened, what is kept safe."""

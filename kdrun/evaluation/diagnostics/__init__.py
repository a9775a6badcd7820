"""What networks that were trained before do beyond their accuracy: to classes, to single pictures, under attack."""

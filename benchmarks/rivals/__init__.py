"""What people write instead of tunemill, each a process of its own: none of them masks, tags, or knows a duplicate's content."""

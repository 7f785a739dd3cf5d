"""What flda reads from an AnnData, and what it writes there."""

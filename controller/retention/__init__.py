"""What nobody needs any more: removed, in portions that hold nobody up."""

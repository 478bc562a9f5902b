"""The receiver: Storage and Verification SCP for every AE title of the node."""

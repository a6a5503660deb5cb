"""The command line: each command reads settings, reaches a control plane, and shows what it says."""

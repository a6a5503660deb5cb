"""Model files in old formats (pickles) into safetensors.

A pickle is a program. Here it is read as data by an interpreter that calls nothing (`pickles`), in a process
of its own that may do nothing but read the one file and write the other (`confinement`).
"""

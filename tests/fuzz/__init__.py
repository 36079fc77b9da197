"Strangers' input, made at random from a seed: `python -m fuzz images --seconds 600` in the folder `tests`; `make fuzz` runs all kinds"

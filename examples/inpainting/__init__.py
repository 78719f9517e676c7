"""The inpainting experiment of Hoffmann & Lessig (2023) with a choice of losses; shares the runs of ``srgan``."""

"""The super-resolution GAN of Stengel et al. (2020) as Hoffmann & Lessig (2023) changed it, with a choice of losses."""
